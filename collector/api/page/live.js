// @ts-check
// What the page follows: one stream of server-sent events at a time, while the page is visible.
// A browser allows six connections to a host, so pages in the background hold none.

import { address } from "./parts.js";

// changes that come together are drawn together
const PAUSE_MILLISECONDS = 300;
// a browser gives up on an answer that is no stream, such as 503 where there are too many readers
const REOPEN_MILLISECONDS = 30000;

/** @type {EventSource | null} */
let source = null;
/** @type {number | undefined} */
let waiting;
/** @type {number | undefined} */
let reopening;

/**
 * Follow the traces that match, in the place of what was followed before; null follows nothing.
 * @param {{[name: string]: any} | null} parameters
 * @param {() => void} changed called soon after traces have changed
 */
export function follow(parameters, changed) {
  if (source) source.close();
  clearTimeout(waiting);
  clearTimeout(reopening);
  source = null;
  waiting = undefined;
  if (!parameters) return;
  const opened = new EventSource(address("traces/live", parameters));
  const soon = () => {
    if (waiting !== undefined) return;
    waiting = setTimeout(() => {
      waiting = undefined;
      changed();
    }, PAUSE_MILLISECONDS);
  };
  opened.addEventListener("trace", soon);
  opened.addEventListener("missed", soon);
  opened.addEventListener("error", () => {
    if (opened.readyState !== EventSource.CLOSED) return;
    reopening = setTimeout(() => follow(parameters, changed), REOPEN_MILLISECONDS);
  });
  source = opened;
}
