// @ts-check
// What the views ask the API first, by the parameters of their addresses. Pure: early.js asks it before the scripts
// of the views are there.

import { address, pick } from "./parts.js";

export const SHOWN = 50;

export const OVERVIEW_FILTERS = [
  "experiment_id",
  "experiment_name",
  "service",
  "version",
  "environment",
  "agent",
  "model",
  "response_model",
  "tool",
  "user",
  "status",
  "score",
];

/** Lists: the path of their rows, and what is asked of it unless the address says otherwise. */
const LISTS = {
  traces: { path: "traces", since: "-24h", sort: "-start" },
  sessions: { path: "sessions", since: "-7d", sort: "-last" },
  errors: { path: "traces/errors", since: "-24h", sort: "-traces" },
};

/** The filters of the overview, and its time. */
export const overviewAsked = (parameters) => ({
  ...pick(parameters, OVERVIEW_FILTERS),
  since: parameters.since ?? "-24h",
  until: parameters.until,
});

export const overviewPath = (asked) => address("traces/overview", asked);

/** Filters, order and page of a list. */
export function listAsked(name, parameters) {
  const { since, sort } = LISTS[name];
  return { since, sort, ...parameters, limit: SHOWN };
}

export const listPath = (name, asked) => address(LISTS[name].path, asked);

/** The first question of a view; null of one that isn't worth an early one. */
export function firstPath(name, parameters) {
  if (name === "") return overviewPath(overviewAsked(parameters));
  return name in LISTS ? listPath(name, listAsked(name, parameters)) : null;
}
