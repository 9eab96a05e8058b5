// @ts-check
// The spans of a trace as a tree beside their times, with the critical path. Of 10,000 only those in sight are
// elements. The keys are those of a tree in the ARIA Authoring Practices.

import { duration, money, number, tokens } from "./parts.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./view.js";
import { useWindowed } from "./windowed.js";

const DEEPEST_INDENT = 12;
const [ROW_HEIGHT, NARROW_ROW_HEIGHT] = [30, 50];
const NARROW = "(max-width: 44rem)";
const PAGE_ROWS = 15;
const TICKS = [0, 0.25, 0.5, 0.75, 1];

/**
 * @param {{spans: any[], seconds: number, selected: string | null,
 *   onSelect: (spanId: string | null) => void}} properties
 */
export function Waterfall({ spans, seconds, selected, onSelect }) {
  const [closed, setClosed] = useState(/** @type {Set<string>} */ (new Set()));
  const [active, setActive] = useState(selected || spans[0]?.span_id || "");
  const places = useMemo(() => placesOf(spans), [spans]);
  const rows = useMemo(() => visible(spans, closed), [spans, closed]);
  const ids = useMemo(() => rows.map((span) => span.span_id), [rows]);
  const height = useRowHeight();
  const { box, look, show, first, last } = useWindowed(ids, height);
  const moved = useRef(false);
  const at = Math.max(0, ids.indexOf(active));
  useLayoutEffect(() => {
    if (selected) moveTo(ids.indexOf(selected));
  }, [selected]);
  useEffect(() => {
    // the span that the address names may be beneath the fold
    if (selected) box.current.scrollIntoView({ block: "nearest" });
  }, []);
  useLayoutEffect(() => {
    if (moved.current) show(at);
    moved.current = false;
  });

  const moveTo = (place) => {
    if (place < 0 || place >= rows.length) return;
    moved.current = true;
    setActive(ids[place]);
  };
  const toggle = (id, isOpen = closed.has(id)) => {
    const changed = new Set(closed);
    if (isOpen) changed.delete(id);
    else changed.add(id);
    setClosed(changed);
  };
  const onKeyDown = (event) => {
    const id = ids[at];
    const isParent = id && places.get(id).children > 0;
    const actions = {
      ArrowDown: () => moveTo(at + 1),
      ArrowUp: () => moveTo(at - 1),
      PageDown: () => moveTo(Math.min(rows.length - 1, at + PAGE_ROWS)),
      PageUp: () => moveTo(Math.max(0, at - PAGE_ROWS)),
      Home: () => moveTo(0),
      End: () => moveTo(rows.length - 1),
      ArrowRight: () => (isParent && closed.has(id) ? toggle(id, true) : isParent && moveTo(at + 1)),
      ArrowLeft: () =>
        isParent && !closed.has(id) ? toggle(id, false) : moveTo(ids.indexOf(places.get(id).parent)),
      j: () => moveTo(at + 1),
      k: () => moveTo(at - 1),
      Enter: () => onSelect(id),
      " ": () => onSelect(id),
      ...(selected ? { Escape: () => onSelect(null) } : {}),
    };
    const action = event.ctrlKey || event.metaKey || event.altKey ? null : actions[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation(); // the keys of the page are others
    action();
  };
  const choose = (id) => {
    setActive(id);
    onSelect(id);
  };
  const shown = rows.slice(first, last).map((span, near) => {
    const id = span.span_id;
    return html`<${Row}
      key=${id}
      span=${span}
      seconds=${seconds}
      top=${(first + near) * height}
      place=${places.get(id)}
      isClosed=${closed.has(id)}
      isActive=${id === ids[at]}
      isSelected=${id === selected}
      onChoose=${choose}
      onToggle=${toggle}
    />`;
  });
  return html`<div class="spans">
    <div class="scale" aria-hidden="true">
      <span><span class="legend">critical path</span></span>
      <span class="track"
        >${TICKS.map((part) => html`<span class="tick">${duration(part * seconds)}</span>`)}</span
      >
    </div>
    <ol
      class="waterfall"
      role="tree"
      data-step
      aria-label="Spans"
      tabindex="0"
      ref=${box}
      onScroll=${look}
      onKeyDown=${onKeyDown}
      aria-activedescendant=${ids.length ? rowId(ids[at]) : null}
    >
      <li role="none" class="length" style=${{ height: `${rows.length * height}px` }}></li>
      ${shown}
    </ol>
  </div>`;
}

const rowId = (spanId) => `span-${spanId}`;

function Row({ span, seconds, top, place, isClosed, isActive, isSelected, onChoose, onToggle }) {
  const failed = span.is_error && !span.recovered_retry;
  const isCritical = (span.critical_seconds || 0) > 0;
  const spent = [tokens(span.tokens), span.cost_usd === null ? "" : money(span.cost_usd)]
    .filter(Boolean)
    .join("  ");
  const states = [
    failed && "failed",
    isCritical && "critical",
    isActive && "active",
    isSelected && "selected",
  ];
  const toggle = (event) => {
    event.stopPropagation();
    onToggle(span.span_id);
  };
  const style = {
    transform: `translateY(${top}px)`,
    "--depth": String(Math.min(span.depth, DEEPEST_INDENT)),
  };
  return html`<li
    role="treeitem"
    id=${rowId(span.span_id)}
    class=${["row", span.kind, ...states].filter(Boolean).join(" ")}
    style=${style}
    aria-level=${span.depth + 1}
    aria-posinset=${place.position}
    aria-setsize=${place.siblings}
    aria-expanded=${place.children ? String(!isClosed) : null}
    aria-selected=${String(isSelected)}
    onClick=${() => onChoose(span.span_id)}
  >
    <span class="name" title=${span.name}>
      <span
        class=${place.children ? "toggle" : "toggle none"}
        aria-hidden="true"
        onClick=${place.children ? toggle : null}
        >${place.children ? (isClosed ? "▸" : "▾") : ""}</span
      ><span class="label">${span.name}</span> <span class="kind">${span.kind}</span>
      ${isClosed && html` <span class="kind">+${number.format(place.below)}</span>`}
      ${span.is_error && html` <${Why} span=${span} failed=${failed} />`}
    </span>
    <span class="track" aria-hidden="true">
      <span class="bar" style=${barStyle(span, seconds)}></span>
    </span>
    <span class="took">${duration(span.duration_seconds)}</span>
    <span class="spent">${spent}</span>
  </li>`;
}

function Why({ span, failed }) {
  const why = [span.error_type, span.error_message].filter(Boolean).join(": ") || "no reason given";
  return html`<span class=${`why ${failed ? "bad" : "warn"}`} title=${why}
    >${failed ? "Error" : "Recovered retry"}: ${why}</span
  >`;
}

function barStyle(span, seconds) {
  const percent = (part) => `${Math.min(100, (100 * part) / (seconds || 1))}%`;
  return { left: percent(span.start_offset_seconds), width: percent(span.duration_seconds) };
}

/** The rows whose parents are all open. */
export function visible(spans, closed) {
  if (!closed.size) return spans;
  let hiddenBelow = Infinity;
  return spans.filter((span) => {
    if (span.depth > hiddenBelow) return false;
    hiddenBelow = closed.has(span.span_id) ? span.depth : Infinity;
    return true;
  });
}

/** Of each span: its parent among the rows, its place among its siblings, how many are directly and in all below. */
export function placesOf(spans) {
  const places = new Map();
  const above = [];
  const families = new Map();
  for (const span of spans) {
    while (above.length && above[above.length - 1].depth >= span.depth) above.pop();
    const parent = above.length ? above[above.length - 1].span_id : "";
    const siblings = (families.get(parent) || 0) + 1;
    families.set(parent, siblings);
    places.set(span.span_id, { parent, position: siblings, siblings, children: 0, below: 0 });
    above.push(span);
  }
  for (const [id, place] of [...places].reverse()) {
    place.siblings = families.get(place.parent);
    place.children = families.get(id) || 0;
    if (place.parent) places.get(place.parent).below += place.below + 1;
  }
  return places;
}

function useRowHeight() {
  const [isNarrow, setNarrow] = useState(() => matchMedia(NARROW).matches);
  useLayoutEffect(() => {
    const query = matchMedia(NARROW);
    const changed = () => setNarrow(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  return isNarrow ? NARROW_ROW_HEIGHT : ROW_HEIGHT;
}
