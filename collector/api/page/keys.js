// @ts-check
// The keyboard: rows and views without a mouse, and the dialog that lists the keys.

import { at } from "./parts.js";

const KEYS = [
  ["/", "Look up a trace by its id"],
  ["Ctrl K", "Search views, traces, sessions and runs"],
  ["j", "Next row"],
  ["k", "Previous row"],
  ["Enter", "Open it"],
  ["x", "Choose the row, to compare it with another one"],
  ["Esc", "Close, or back to the list"],
  ["s", "Save this view"],
  ["g, then o t s e r c a h", "Overview, traces, sessions, errors, runs, compare, alerts, service"],
  ["?", "This help"],
];
const GOES = {
  o: "",
  t: "traces",
  s: "sessions",
  e: "errors",
  r: "runs",
  c: "compare",
  a: "alerts",
  h: "health",
};
const LISTS = { trace: "traces", session: "sessions", run: "runs" };
const GO_MILLISECONDS = 1500;

/** What j and k go through: the first link or button of each row, and what a view marks by data-step. */
function steps() {
  const all = [...at("view").querySelectorAll("[data-step], tbody tr")];
  const found = all.map((each) => (each.matches("[data-step]") ? each : each.querySelector("a, button")));
  return found.filter((each) => each && each.checkVisibility());
}

function step(by) {
  const all = steps();
  if (!all.length) return;
  const place = all.findIndex((each) => each === document.activeElement);
  const next = place < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, place + by));
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
}

/** Check or clear the box of the row that has the focus. */
function choose() {
  const box = document.activeElement?.closest("#view tbody tr")?.querySelector("input.mark");
  if (box instanceof HTMLElement) box.click();
}

/** Close what is open, or go to the list from which a single thing was opened. */
function leave() {
  const active = document.activeElement;
  if (
    active instanceof HTMLElement &&
    active.checkVisibility() &&
    active.matches("input, select, #view tbody *")
  ) {
    active.blur();
    return;
  }
  const list = LISTS[location.hash.replace(/^#\/?/, "").split("/")[0]];
  if (!list) return;
  location.hash = before.startsWith(`#/${list}`) ? before : `#/${list}`;
}

// the field of a dialog that was just closed keeps the focus until the page is drawn again, though nobody sees it
const isTyping = (target) =>
  target instanceof HTMLElement &&
  target.checkVisibility() &&
  (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName));

let goingUntil = 0;
// the address from which this one was reached
let before = "";

/**
 * Listen to the keyboard; `look` focuses the field for ids, `search` opens the palette, `save` saves the view.
 * @param {{look: () => void, search: () => void, save: () => void}} actions
 */
export function listenToKeys({ look, search, save }) {
  const act = { "/": look, j: () => step(1), k: () => step(-1), s: save, x: choose, "?": showHelp };
  addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (document.querySelector("dialog[open]") || event.defaultPrevented) return;
    if ((event.ctrlKey || event.metaKey) && key === "k") {
      event.preventDefault();
      search();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "Escape") leave();
    if (isTyping(target) && !(target instanceof HTMLInputElement && target.type === "checkbox")) return;
    if (Date.now() < goingUntil && key in GOES) {
      goingUntil = 0;
      location.hash = `#/${GOES[key]}`;
      return;
    }
    goingUntil = key === "g" ? Date.now() + GO_MILLISECONDS : 0;
    if (!(key in act)) return;
    event.preventDefault();
    act[key]();
  });
  addEventListener("hashchange", ({ oldURL }) => {
    before = new URL(oldURL).hash;
  });
}

export function showHelp() {
  const list = at("help-keys");
  if (!list.childElementCount) {
    for (const [key, told] of KEYS) {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = key;
      text.textContent = told;
      list.append(term, text);
    }
  }
  at("help").showModal();
}
