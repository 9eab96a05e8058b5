// @ts-check
// Two traces side by side: what differs in figures, in the spans and in what was said. #/beside?a=ID&b=ID

import { duration, money, number } from "./parts.js";
import { Conversation } from "./session.js";
import { Tabs } from "./span.js";
import { Rows, figuresOf, loadTrace } from "./trace.js";
import { html, useMemo, useState } from "./view.js";
import { useWindowed } from "./windowed.js";

const TABS = ["Spans", "Conversation"];
const ROW_HEIGHT = 30;
const DEEPEST_INDENT = 12;

/** {a, b}: both summaries. */
async function loadBeside({ parameters: { a, b } }) {
  if (!a || !b) throw new Error("Two traces are needed: #/beside?a=ID&b=ID.");
  const [first, second] = await Promise.all([loadTrace({ id: a }), loadTrace({ id: b })]);
  return { a: first, b: second };
}

function Beside({ data: { a, b } }) {
  const [tab, setTab] = useState(TABS[0]);
  return html`<h2>Two traces side by side</h2>
    <p>A: <${ToTrace} trace=${a} /></p>
    <p>B: <${ToTrace} trace=${b} /></p>
    <${Differences} a=${a} b=${b} />
    <${Tabs} tab=${tab} tabs=${TABS} label="Spans or conversations" onTab=${setTab} />
    <div role="tabpanel" aria-label=${tab}>
      ${
        tab === TABS[0]
          ? html`<${Aligned} a=${a} b=${b} />`
          : html`<div class="beside">
              ${[a, b].map(
                (trace) =>
                  html`<section aria-label=${trace.name}>
                    <h3><${ToTrace} trace=${trace} /></h3>
                    <${Conversation} traceId=${trace.trace_id} />
                  </section>`,
              )}
            </div>`
      }
    </div>`;
}

const ToTrace = ({ trace }) =>
  html`<a href=${`#/trace/${trace.trace_id}`}
    >${trace.name} <span class="mono">${trace.trace_id.slice(0, 8)}</span></a
  >`;

function Differences({ a, b }) {
  const [left, right] = [new Map(figuresOf(a)), new Map(figuresOf(b))];
  const numbers = {
    Duration: [a.duration_seconds, b.duration_seconds, duration],
    Spans: [a.span_count, b.span_count, number.format],
    "Model calls": [a.model_call_count, b.model_call_count, number.format],
    "Tool calls": [a.tool_call_count, b.tool_call_count, number.format],
    Errors: [a.error_span_count, b.error_span_count, number.format],
    "Tokens in→out": [a.tokens.total, b.tokens.total, number.format],
    Cost: [a.cost.usd, b.cost.usd, money],
  };
  const rows = [...new Set([...left.keys(), ...right.keys()])]
    .filter((name) => left.get(name) || right.get(name))
    .map((name) => [name, left.get(name), right.get(name), name in numbers ? change(...numbers[name]) : ""]);
  const columns = [
    { title: "Figure", cell: (row) => row[0] },
    { title: "A", cell: (row) => row[1] },
    { title: "B", cell: (row) => row[2] },
    { title: "B against A", cell: (row) => row[3] },
  ];
  return html`<${Rows} label="Differences" columns=${columns} rows=${rows} />`;
}

function change(from, to, said) {
  if (from === null || to === null || from === to) return "";
  const sign = to > from ? "+" : "−";
  const percent = from ? ` (${sign}${number.format(Math.round((100 * Math.abs(to - from)) / from))} %)` : "";
  return `${sign}${said(Math.abs(to - from))}${percent}`;
}

function Aligned({ a, b }) {
  const rows = useMemo(() => aligned(a.spans, b.spans), [a, b]);
  const ids = useMemo(() => rows.map((row) => row.key), [rows]);
  const { box, look, first, last } = useWindowed(ids, ROW_HEIGHT);
  const longest = Math.max(a.duration_seconds, b.duration_seconds) || 1;
  return html`<div
    class="waterfall aligned"
    tabindex="0"
    role="region"
    aria-label="Spans of both"
    ref=${box}
    onScroll=${look}
  >
    <div class="length" style=${{ height: `${rows.length * ROW_HEIGHT}px` }}></div>
    ${rows
      .slice(first, last)
      .map(
        (row, near) =>
          html`<${Pair} key=${row.key} row=${row} top=${(first + near) * ROW_HEIGHT} longest=${longest} />`,
      )}
  </div>`;
}

function Pair({ row, top, longest }) {
  const { a, b } = row;
  const span = a || b;
  const only = a && b ? "" : a ? " only-a" : " only-b";
  const style = { transform: `translateY(${top}px)`, "--depth": String(Math.min(row.depth, DEEPEST_INDENT)) };
  return html`<div class=${`row pair ${span.kind}${only}`} style=${style}>
    <span class="name" title=${span.name}
      ><span class="label">${span.name}</span>
      <span class="kind"
        >${span.kind}${only && html`<span class="wide"> only in ${a ? "A" : "B"}</span>`}</span
      ></span
    >
    <${Side} span=${a} longest=${longest} /><${Side} span=${b} longest=${longest} />
    <span class="spent">${a && b ? change(a.duration_seconds, b.duration_seconds, duration) : ""}</span>
  </div>`;
}

function Side({ span, longest }) {
  if (!span) return html`<span class="side quiet">–</span>`;
  const width = `${Math.min(100, (100 * span.duration_seconds) / longest)}%`;
  return html`<span class=${span.is_error && !span.recovered_retry ? "side failed" : "side"}>
    <span class="track" aria-hidden="true"><span class="bar" style=${{ width }}></span></span>
    <span class="took">${duration(span.duration_seconds)}${span.is_error ? " !" : ""}</span>
  </span>`;
}

/** The spans of both in one tree: those at the same place, by the names down to them and their turn, in one row. */
export function aligned(left, right) {
  const numbers = new Map();
  const [a, b] = [keyed(left, numbers), keyed(right, numbers)];
  const rows = [];
  const put = (key) =>
    rows.push({ key, depth: (a.get(key) || b.get(key)).depth, a: a.get(key), b: b.get(key) });
  const rest = [...a.keys()];
  const passed = new Set();
  let at = 0;
  for (const key of b.keys()) {
    if (a.has(key) && !passed.has(key)) {
      for (; rest[at] !== key; at += 1) pass(rest[at]);
      pass(rest[at]);
      at += 1;
    } else if (!a.has(key)) put(key);
  }
  for (; at < rest.length; at += 1) pass(rest[at]);
  return rows;

  function pass(key) {
    passed.add(key);
    put(key);
  }
}

/** Spans by their place: a number for each way down to one, so that deep ones have no long names. */
function keyed(spans, numbers) {
  const found = new Map();
  const turns = new Map();
  const above = [];
  for (const span of spans) {
    above.length = Math.min(above.length, span.depth);
    const place = `${above[above.length - 1] ?? ""}/${span.name}`;
    const turn = (turns.get(place) || 0) + 1;
    turns.set(place, turn);
    const way = `${turn}#${place}`;
    if (!numbers.has(way)) numbers.set(way, numbers.size);
    const key = String(numbers.get(way));
    above.push(key);
    found.set(key, span);
  }
  return found;
}

export const beside = { title: "Two traces", load: loadBeside, Show: Beside };
