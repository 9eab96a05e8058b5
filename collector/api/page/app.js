// @ts-check
// The page at /-/: draws the view that the address names, when it changes and at intervals while visible.
//
//   #/               overview     #/traces?…    #/sessions?…   #/errors?…   #/tools?…   #/models?…
//   #/trace/ID       one trace    #/session/ID  one session   #/beside?a=ID&b=ID  two traces
//   #/runs?…  #/run/ID            #/compare?run_id=…  several runs
//   #/compare?a.…&b.…             two times, versions, models, …
//   #/alerts         alerts       #/health      the service itself

import { tidyCharts } from "./charts.js";
import { refreshHealth } from "./health.js";
import { listenToKeys, showHelp } from "./keys.js";
import { follow } from "./live.js";
import { openPalette } from "./palette.js";
import { address, at } from "./parts.js";
import { placeOf } from "./places.js";
import { askToSave } from "./saving.js";
import { html, render } from "./view.js";
import { readAllViews, viewOf, VIEW_NAMES } from "./views.js";

const REFRESH_MILLISECONDS = 3000;
const LIVE_MILLISECONDS = 5000;
const POSTPONE_MILLISECONDS = 1000;
// pixels before the menu's current item, where it is too wide
const MENU_MARGIN = 60;

const MENU = {
  trace: "traces",
  beside: "traces",
  session: "sessions",
  run: "runs",
  models: "tools",
  "compare-runs": "runs",
};

/** Where the address leads: {name, id, parameters, go}. */
function place() {
  const { name, id, parameters } = placeOf(location.hash, VIEW_NAMES);
  if (name === "compare" && parameters.run_id) return placed("compare-runs", "", parameters);
  return placed(name, id, parameters);
}

function placed(name, id, parameters) {
  const path = id ? `${name}/${encodeURIComponent(id)}` : name;
  // a function gets the parameters of now: what is shown may be of an earlier address
  const go = (wanted) => {
    const chosen = typeof wanted === "function" ? wanted(place().parameters) : wanted;
    location.hash = `#/${path}${address("", chosen)}`;
  };
  return { name, id, parameters, go };
}

let drawing = 0;
/** @type {string | null} */
let drawnView = null;
/** What is shown now, a view of views.js; null until its scripts are there. @type {any} */
let view = null;

function markInMenu(name) {
  for (const item of document.querySelectorAll("#menu a[data-view]")) {
    const isHere = item.getAttribute("data-view") === name;
    if (isHere) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
    if (isHere) at("menu").scrollLeft = /** @type {any} */ (item).offsetLeft - MENU_MARGIN;
  }
}

async function draw({ again = false } = {}) {
  drawing += 1;
  const mine = drawing;
  const here = place();
  if (!again) begin(here);
  try {
    const wanted = await viewOf(here.name);
    if (mine !== drawing) return; // a later call has taken over
    if (!view) open(wanted, here);
    const data = await wanted.load(here);
    if (mine !== drawing) return;
    show(html`<${wanted.Show} key=${here.name + here.id} ...${here} data=${data} />`);
    at("message").textContent = "";
  } catch (error) {
    if (mine !== drawing) return;
    if (!again) show(html`<${AfterError} here=${here} />`);
    at("message").className = "bad";
    at("message").textContent = error instanceof Error ? error.message : String(error);
  }
  tidyCharts();
}

/** What to do where a view can't be shown; what went wrong stands above it. */
function AfterError({ here: { name, parameters } }) {
  const list = MENU[name];
  const isFiltered = !list && Object.keys(parameters).length > 0;
  return html`<p class="after-error">
    <button type="button" onClick=${() => draw()}>Try again</button>${" "}
    ${list ? html`<a class="button" href="#/${list}">To the list</a>` : null}
    ${isFiltered ? html`<a class="button" href="#/${name}">Without filters</a>` : null}
  </p>`;
}

/** What is known of a view before its scripts are there. */
function begin({ name, id }) {
  if (name === "trace") at("trace-id").value = id;
  markInMenu(MENU[name] || name);
  at("message").className = "quiet loading";
  at("message").textContent = "Loading…";
  if (drawnView !== name + id) scrollTo(0, 0);
  drawnView = name + id;
  view = null;
  follow(null, drawChanges);
}

function open(opened, here) {
  view = opened;
  document.title = `${view.title} · Sidespan`;
  followView(here);
}

/** Shown at once, also for those who look at the page right after. */
const show = (shown) => render(shown, at("view"));

function followView(here) {
  const { follows } = view;
  follow(follows && !document.hidden ? follows(here) : null, drawChanges);
}

/** @type {number | undefined} */
let postponed;

let isDrawingChanges = false;

/** Draw what has changed; a little later while the last changes are still asked for, or somebody marks text or
 * fills in a filter. */
async function drawChanges() {
  clearTimeout(postponed);
  if (document.hidden) return;
  if (isDrawingChanges || marking() || (place().name === "traces" && reading())) {
    postponed = setTimeout(drawChanges, POSTPONE_MILLISECONDS);
    return;
  }
  isDrawingChanges = true;
  await draw({ again: true }).finally(() => {
    isDrawingChanges = false;
  });
}

const marking = () => String(getSelection());

function reading() {
  const active = document.activeElement;
  const busy = active && ["INPUT", "SELECT"].includes(active.tagName) && at("view").contains(active);
  return busy || marking();
}

async function keepFresh() {
  if (!document.hidden) await refreshHealth();
  setTimeout(keepFresh, REFRESH_MILLISECONDS);
}

async function keepLive() {
  const { parameters } = place();
  if (!document.hidden && view?.live && !parameters.cursor && !reading()) await draw({ again: true });
  setTimeout(keepLive, LIVE_MILLISECONDS);
}

at("lookup").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = `#/trace/${encodeURIComponent(at("trace-id").value.trim())}`;
  if (location.hash === wanted) draw();
  else location.hash = wanted;
});
addEventListener("hashchange", () => draw());
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault(); // the address is the view's
  at("main").focus();
});
const look = () => at("trace-id").focus();
listenToKeys({ look, search: openPalette, save: () => askToSave(document.title) });
at("open-palette").addEventListener("click", openPalette);
at("open-help").addEventListener("click", showHelp);
at("open-save").addEventListener("click", () => askToSave(document.title));
document.addEventListener("visibilitychange", () => {
  if (view) followView(place());
  if (document.hidden) return;
  refreshHealth();
  if (view?.live || view?.follows) draw({ again: true });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw({ again: true }));

draw().then(readAllViews);
keepFresh();
setTimeout(keepLive, LIVE_MILLISECONDS);
