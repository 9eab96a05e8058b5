// @ts-check
// The views by name. Their scripts are read when they are first needed, so that the first view waits for its own only.

/**
 * name -> reads a view:
 *
 *   title     what the document is called
 *   load      place -> what it shows, asked from the API; throws an Error with a readable message
 *   Show      a component that shows it: ({data, ...place}) -> html`…`
 *   live      asked again at intervals
 *   follows   place -> the filters of the traces whose changes have it asked again; null: none
 *
 * A place is what the address says: {name, id, parameters, go}; go(parameters) changes the address, and so
 * asks and shows anew. What the view keeps by useState lives as long as name and id stay the same.
 * @type {{[name: string]: () => Promise<any>}}
 */
const VIEWS = {
  "": async () => (await import("./overview.js")).overview,
  traces: async () => (await import("./lists.js")).traces,
  sessions: async () => (await import("./lists.js")).sessions,
  errors: async () => (await import("./error_groups.js")).errors,
  tools: async () => (await import("./calls.js")).tools,
  models: async () => (await import("./calls.js")).models,
  runs: async () => (await import("./runs.js")).runs,
  run: async () => (await import("./runs.js")).run,
  "compare-runs": async () => (await import("./runs.js")).comparedRuns,
  alerts: async () => (await import("./alerts.js")).alerts,
  trace: async () => (await import("./trace.js")).trace,
  beside: async () => (await import("./beside.js")).beside,
  session: async () => (await import("./session.js")).session,
  compare: async () => (await import("./versus.js")).versus,
  health: async () => (await import("./health.js")).health,
};

export const VIEW_NAMES = Object.keys(VIEWS);

/** A view, once its scripts are there. Throws an Error with a readable message. */
export async function viewOf(name) {
  try {
    return await VIEWS[name]();
  } catch {
    throw new Error("A part of the page can't be loaded. Reload the page once the service can be reached.");
  }
}

/** Read the scripts of all views, so that opening one waits for none. */
export const readAllViews = () => Promise.allSettled(VIEW_NAMES.map(viewOf));
