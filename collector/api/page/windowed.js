// @ts-check
// Long lists of rows of one height: only those in sight are there, however many there are.

import { useCallback, useLayoutEffect, useRef, useState } from "./view.js";

// rows above and below what is in sight, so that a fast scroll meets rows and not the ground
const SPARE_ROWS = 12;

/**
 * Which rows are in sight of a box that scrolls. `ids` name the rows: when some come or go, the row at the top
 * of the sight stays where it is.
 * @param {string[]} ids
 * @param {number} rowHeight in pixels
 */
export function useWindowed(ids, rowHeight) {
  const box = useRef(/** @type {any} */ (null));
  const anchor = useRef({ id: "", offset: 0 });
  const [sight, setSight] = useState({ first: 0, last: 60 });
  const look = useCallback(() => {
    const { scrollTop, clientHeight } = box.current;
    const at = Math.floor(scrollTop / rowHeight);
    anchor.current = { id: scrollTop ? ids[at] || "" : "", offset: scrollTop - at * rowHeight };
    const first = Math.max(0, at - SPARE_ROWS);
    const last = at + Math.ceil(clientHeight / rowHeight) + SPARE_ROWS;
    setSight((old) => (old.first === first && old.last === last ? old : { first, last }));
  }, [ids, rowHeight]);
  useLayoutEffect(() => {
    const { id, offset } = anchor.current;
    const at = id ? ids.indexOf(id) : -1;
    if (at >= 0) box.current.scrollTop = at * rowHeight + offset;
    look();
    const observer = new ResizeObserver(look);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, [look]);
  const show = useCallback(
    (at) => {
      const { scrollTop, clientHeight } = box.current;
      const [top, bottom] = [at * rowHeight, (at + 1) * rowHeight];
      const isFar = top < scrollTop - clientHeight || bottom > scrollTop + 2 * clientHeight;
      if (isFar) box.current.scrollTop = top - clientHeight / 2;
      else if (top < scrollTop) box.current.scrollTop = top;
      else if (bottom > scrollTop + clientHeight) box.current.scrollTop = bottom - clientHeight;
    },
    [rowHeight],
  );
  return { box, look, show, first: sight.first, last: Math.min(sight.last, ids.length) };
}
