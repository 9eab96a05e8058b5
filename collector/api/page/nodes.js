// @ts-check
// A view that is made of DOM nodes, among those of templates.

import { html, useLayoutEffect, useRef } from "./view.js";
import { at } from "./parts.js";

/** The first span in sight and where it stands, to be put there again. */
function inSight() {
  const [first] = [...at("view").querySelectorAll(".more")].filter(
    (each) => each.getBoundingClientRect().top >= 0,
  );
  return first ? { id: first.id, top: first.getBoundingClientRect().top } : null;
}

/** Replace what the holder has by the parts, and restore focus, scroll positions and the spans that were open. */
function replace(holder, parts) {
  const open = [...holder.querySelectorAll(".more[aria-expanded=true]")].map((each) => each.id);
  const [sight, down] = [inSight(), scrollY];
  const focused = document.activeElement && document.activeElement.id;
  const scrolled = [...holder.querySelectorAll(".table")].map((each) => each.scrollLeft);
  holder.replaceChildren(...parts);
  [...holder.querySelectorAll(".table")].forEach((each, number) => {
    each.scrollLeft = scrolled[number] || 0;
  });
  for (const id of open) if (at(id)) at(id).click();
  if (focused && focused !== "trace-id" && at(focused)) at(focused).focus({ preventScroll: true });
  if (down) scrollTo(0, down);
  if (down && sight && at(sight.id)) scrollBy(0, at(sight.id).getBoundingClientRect().top - sight.top);
}

function Nodes({ data }) {
  const holder = useRef(null);
  useLayoutEffect(() => replace(/** @type {any} */ (holder.current), data), [data]);
  return html`<div class="nodes" ref=${holder}></div>`;
}

/** A view whose `draw(place)` answers nodes. */
export const ofNodes = (draw) => ({ load: draw, Show: Nodes });
