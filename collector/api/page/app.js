// @ts-check
// The page at /-/: draws the view that the address names, when it changes and at intervals while visible.
//
//   #/                overview       #/traces?…       traces        #/trace/ID
//   #/sessions?…      sessions       #/session/ID     one session   #/runs?…  #/run/ID  #/compare?run_id=…
//   #/alerts          alerts         #/health       the service itself

import { alerts } from "./alerts.js";
import { tidyCharts } from "./charts.js";
import { refreshHealth } from "./health.js";
import { follow } from "./live.js";
import { overview } from "./overview.js";
import { address, at } from "./parts.js";
import { compared, run, runs } from "./runs.js";
import { session, sessions, traces } from "./tables.js";
import { trace } from "./trace.js";

const REFRESH_MILLISECONDS = 3000;
const LIVE_MILLISECONDS = 5000;
const POSTPONE_MILLISECONDS = 1000;

/** name -> {title, draw(id, parameters, go), live: redrawn at intervals, follows(id, parameters): redrawn when
 * such traces change} */
const VIEWS = {
  "": { title: "Overview", draw: (_, parameters, go) => overview(parameters, go), live: true },
  traces: {
    title: "Traces",
    draw: (_, parameters, go) => traces(parameters, go),
    live: true,
    follows: (_, parameters) => (parameters.cursor ? null : { since: "-24h", ...parameters, sort: "" }),
  },
  trace: { title: "Trace", draw: (id) => trace(id), follows: (id) => ({ trace_id: id }) },
  sessions: { title: "Sessions", draw: (_, parameters, go) => sessions(parameters, go), live: true },
  session: { title: "Session", draw: (id) => session(id) },
  runs: { title: "Runs", draw: (_, parameters, go) => runs(parameters, go) },
  run: { title: "Run", draw: (id) => run(id) },
  compare: { title: "Compare runs", draw: (_, parameters) => compared(parameters) },
  alerts: { title: "Alerts", draw: () => alerts(), live: true },
  health: { title: "Service" },
};
const MENU = { trace: "traces", session: "sessions", run: "runs", compare: "runs" };

/** {name, id, parameters} of the address; a repeated parameter becomes a list. */
function place() {
  const hash = location.hash;
  const old = /^#trace=(.*)$/.exec(hash); // the form that earlier versions of the page used
  if (old) return { name: "trace", id: decodeURIComponent(old[1]), parameters: {} };
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [name, ...rest] = path.split("/");
  const parameters = {};
  for (const [key, value] of new URLSearchParams(query)) {
    parameters[key] = key in parameters ? [parameters[key], value].flat() : value;
  }
  return { name: name in VIEWS ? name : "", id: decodeURIComponent(rest.join("/")), parameters };
}

let drawing = 0;
/** @type {string | null} */
let drawnView = null;

async function draw({ again = false } = {}) {
  if (location.hash === "#main") return;
  drawing += 1;
  const mine = drawing;
  const { name, id, parameters } = place();
  const view = VIEWS[name];
  const go = (wanted) => {
    location.hash = `#/${name}${address("", wanted)}`;
  };
  for (const item of document.querySelectorAll("nav a[data-view]")) {
    if (item.getAttribute("data-view") === (MENU[name] || name)) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
  at("health").hidden = name !== "health";
  at("view").hidden = name === "health";
  at("trace-id").value = name === "trace" ? id : at("trace-id").value;
  if (!again) {
    document.title = `${view.title} · Sidespan`;
    at("message").className = "quiet";
    at("message").textContent = view.draw ? "Loading…" : "";
    if (drawnView !== name + id) scrollTo(0, 0);
  }
  drawnView = name + id;
  if (!again) followView();
  if (!view.draw) return;
  try {
    const parts = await view.draw(id, parameters, go);
    if (mine !== drawing) return; // a later call has taken over
    replace(parts);
    at("message").textContent = "";
  } catch (error) {
    if (mine !== drawing) return;
    if (!again) at("view").replaceChildren();
    at("message").className = "bad";
    at("message").textContent = error instanceof Error ? error.message : String(error);
  }
  tidyCharts();
}

function followView() {
  const { name, id, parameters } = place();
  const { follows } = VIEWS[name];
  follow(follows && !document.hidden ? follows(id, parameters) : null, drawChanges);
}

/** @type {number | undefined} */
let postponed;

/** Draw what has changed; while somebody marks text or fills in a filter, a little later. */
async function drawChanges() {
  clearTimeout(postponed);
  if (document.hidden) return;
  if (marking() || (place().name === "traces" && reading())) {
    postponed = setTimeout(drawChanges, POSTPONE_MILLISECONDS);
    return;
  }
  await draw({ again: true });
}

/** The first span in sight and where it stands, to be put there again. */
function inSight() {
  const [first] = [...at("view").querySelectorAll(".more")].filter(
    (each) => each.getBoundingClientRect().top >= 0,
  );
  return first ? { id: first.id, top: first.getBoundingClientRect().top } : null;
}

/** Replace the view by the parts, and restore focus, scroll positions and the spans that were open. */
function replace(parts) {
  const open = [...at("view").querySelectorAll(".more[aria-expanded=true]")].map((each) => each.id);
  const [sight, down] = [inSight(), scrollY];
  const focused = document.activeElement && document.activeElement.id;
  const scrolled = [...at("view").querySelectorAll(".table")].map((each) => each.scrollLeft);
  at("view").replaceChildren(...parts);
  [...at("view").querySelectorAll(".table")].forEach((each, number) => {
    each.scrollLeft = scrolled[number] || 0;
  });
  for (const id of open) if (at(id)) at(id).click();
  if (focused && focused !== "trace-id" && at(focused)) at(focused).focus({ preventScroll: true });
  if (down) scrollTo(0, down);
  if (down && sight && at(sight.id)) scrollBy(0, at(sight.id).getBoundingClientRect().top - sight.top);
}

const marking = () => String(getSelection());

function reading() {
  const active = document.activeElement;
  const busy = active && ["INPUT", "SELECT"].includes(active.tagName) && at("view").contains(active);
  return busy || at("view").querySelector("input.mark:checked, .details:not([hidden])") || marking();
}

async function keepFresh() {
  if (!document.hidden) await refreshHealth();
  setTimeout(keepFresh, REFRESH_MILLISECONDS);
}

async function keepLive() {
  const { name, parameters } = place();
  if (!document.hidden && VIEWS[name].live && !parameters.cursor && !reading()) await draw({ again: true });
  setTimeout(keepLive, LIVE_MILLISECONDS);
}

at("lookup").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = `#/trace/${encodeURIComponent(at("trace-id").value.trim())}`;
  if (location.hash === wanted) draw();
  else location.hash = wanted;
});
addEventListener("hashchange", () => draw());
addEventListener("keydown", (event) => {
  const typing =
    event.target instanceof Element && ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  at("trace-id").focus();
});
document.addEventListener("visibilitychange", () => {
  followView();
  const { live, follows } = VIEWS[place().name];
  if (document.hidden) return;
  refreshHealth();
  if (live || follows) draw({ again: true });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw({ again: true }));

draw();
keepFresh();
setTimeout(keepLive, LIVE_MILLISECONDS);
