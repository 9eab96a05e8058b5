// @ts-check
// Traces and sessions as tables, with their filters, and what other lists share with them. The filters are in the
// address, so a view can be shared as a link.

import { Clip, Empty, HowToSend, Moment, Pill, Table } from "./components.js";
import { useFacets } from "./facets.js";
import { Filters } from "./filters.js";
import { listAsked, listPath } from "./first.js";
import { address, compact, duration, get, money, number, scoreText, without } from "./parts.js";
import { before } from "./periods.js";
import { html, useState } from "./view.js";

// ---- what all of them have

/** Below a table: the next page, and the first one. */
function Pages({ cursor, next, asked, go }) {
  return html`<p class="pages">
    ${cursor ? html`<button type="button" class="plain" onClick=${() => go(asked)}>First page</button>` : null}
    ${
      next
        ? html`<button
            type="button"
            class="plain"
            id="next-page"
            onClick=${() => go({ ...asked, cursor: next })}
          >
            Next page
          </button>`
        : null
    }
  </p>`;
}

function Exports({ path, asked }) {
  const file = (format) => address(path, { ...without(asked, "cursor"), format });
  return html`<p class="quiet small exports">
    <${CompareLink} asked=${asked} /> Export all rows as${" "}
    <a href=${file("csv")} download="${path}.csv">CSV</a> or${" "}
    <a href=${file("parquet")} download="${path}.parquet">Parquet</a>
  </p>`;
}

/** What is shown, compared with the time of the same length before it. */
export function CompareLink({ asked }) {
  const filters = without(asked, "since", "until", "sort", "cursor");
  const href = `#/compare${address("", { ...filters, ...before(asked.since, asked.until) })}`;
  return html`<a class="compare-link" href=${href}>Compare with before</a>`;
}

/**
 * A view of rows: filters, a table, pages. `rowsOf(answer)` are the rows, `none` what stands in their place,
 * `beside(a, b)` the address of two of them side by side, by their keys, if there is one.
 * @param {{name: string, title: string, columns: any[], rowsOf: (answer: any) => any[], keyOf: (row: any) => any,
 *   none: any, follows?: any, live?: boolean, beside?: ((a: string, b: string) => string) | null}} what
 */
function listed({ name, title, columns, rowsOf, keyOf, none, beside = null, ...rest }) {
  const load = async ({ parameters }) => {
    const asked = listAsked(name, parameters);
    return { asked, found: await get(listPath(name, asked)) };
  };
  const Show = ({ data: { found, asked }, go }) => {
    const { cursor } = asked;
    const filters = without(asked, "cursor", "limit");
    const rows = rowsOf(found);
    const onSort = (wanted) => go({ ...filters, sort: wanted });
    const [marked, setMarked] = useState(/** @type {string[]} */ ([]));
    const shown = beside ? withBoxes(columns, keyOf, marked, setMarked) : columns;
    return html`<div class="heading">
        <h2>${title}</h2>
        <${Exports} path=${name} asked=${filters} />
      </div>
      <${Filters} asked=${filters} go=${go} />
      ${beside && marked.length > 0 && html`<${Chosen} ...${{ marked, setMarked, beside }} />`}
      ${
        rows.length
          ? html`<${Table} label=${title} ...${{ columns: shown, rows, sort: asked.sort, onSort, keyOf }} />`
          : none
      }
      <${Pages} cursor=${cursor} next=${found.next_cursor} asked=${filters} go=${go} />`;
  };
  return { title, load, Show, ...rest };
}

// ---- two rows to put beside each other

const COMPARED = 2;

/**
 * The columns, with a box in the first one; of three boxes that are checked the first one is let go.
 * @param {any[]} columns
 */
function withBoxes(columns, keyOf, marked, setMarked) {
  const [first, ...rest] = columns;
  const mark = (key, on) =>
    setMarked(on ? [...marked, key].slice(-COMPARED) : marked.filter((each) => each !== key));
  const box = (row) =>
    html`<input
      type="checkbox"
      class="mark"
      aria-label=${`Compare ${row.name}, ${keyOf(row).slice(0, 8)}`}
      checked=${marked.includes(keyOf(row))}
      onChange=${(event) => mark(keyOf(row), event.target.checked)}
    />`;
  return [{ ...first, cell: (row) => html`${box(row)}${first.cell(row)}` }, ...rest];
}

/** What is chosen, kept in sight while the rows scroll. */
function Chosen({ marked, setMarked, beside }) {
  const [a, b] = marked;
  return html`<div class="chosen" role="status">
    <span
      >${b ? "Two traces are chosen." : "One trace is chosen: choose another one to compare it with."}</span
    >
    ${b && html`<a class="button" href=${beside(a, b)}>Side by side</a>`}
    <button type="button" class="plain" onClick=${() => setMarked([])}>Clear</button>
  </div>`;
}

// ---- traces

const cost = (row) =>
  `${row.unpriced_model_calls && row.cost_usd !== null ? "≥ " : ""}${money(row.cost_usd)}`;

const TRACES = [
  {
    title: "Trace",
    sort: "name",
    cell: (row) =>
      html`<a href="#/trace/${row.trace_id}" title=${row.trace_id}>${row.name}</a>
        <${Clip} text=${row.error_message || row.error_type || ""} tone="bad small below" />`,
  },
  {
    title: "Started",
    words: true,
    sort: "start",
    cell: (row) => html`<${Moment} ns=${row.start_unix_ns} />`,
  },
  { title: "Status", words: true, cell: (row) => html`<${Pill} status=${row.status} />` },
  { title: "Duration", sort: "duration", cell: (row) => duration(row.duration_seconds) },
  { title: "Spans", sort: "spans", cell: (row) => number.format(row.span_count) },
  { title: "Tokens", sort: "tokens", cell: (row) => compact(row.total_tokens) },
  { title: "Cost", sort: "cost", cell: cost },
  { title: "Agent", words: true, cell: (row) => row.agent || "" },
  { title: "Models", words: true, cell: (row) => html`<${Clip} text=${row.models.join(", ")} />` },
  { title: "Service", words: true, cell: (row) => html`<${Clip} text=${row.service || ""} />` },
  {
    title: "Scores",
    words: true,
    any: (row) => row.scores.length,
    cell: (row) => html`<${Clip} text=${row.scores.map(scoreText).join(", ")} />`,
  },
];

/** What stands in the place of rows: whether nothing matches, or nothing has been sent yet. */
export function NoRows({ title }) {
  const facets = useFacets(0);
  if (!facets) return html`<p class="quiet">Loading…</p>`;
  return !facets.experiment || facets.experiment.length
    ? html`<${Empty} title=${title}><p class="quiet">Remove a filter or choose a longer time range.</p><//>`
    : html`<${Empty} title="No traces yet."><${HowToSend} /><//>`;
}

export const traces = listed({
  name: "traces",
  title: "Traces",
  columns: TRACES,
  rowsOf: (answer) => answer.traces,
  keyOf: (row) => row.trace_id,
  beside: (a, b) => address("#/beside", { a, b }),
  none: html`<${NoRows} title="No traces match." />`,
  live: true,
  follows: ({ parameters }) => (parameters.cursor ? null : { since: "-24h", ...parameters, sort: "" }),
});

// ---- sessions

export const count = (value, tone) => (value ? html`<span class=${tone}>${number.format(value)}</span>` : "");

const SESSIONS = [
  {
    title: "Session",
    cell: (row) => html`<a href="#/session/${encodeURIComponent(row.session)}">${row.session}</a>`,
  },
  {
    title: "Last active",
    words: true,
    sort: "last",
    cell: (row) => html`<${Moment} ns=${row.end_unix_ns} />`,
  },
  { title: "Turns", sort: "turns", cell: (row) => number.format(row.turns) },
  { title: "Errors", sort: "errors", cell: (row) => count(row.errors, "bad") },
  { title: "Busy time", cell: (row) => duration(row.busy_seconds) },
  { title: "Tokens", sort: "tokens", cell: (row) => compact(row.total_tokens) },
  { title: "Cost", sort: "cost", cell: (row) => money(row.cost_usd) },
  { title: "Scores", cell: (row) => count(row.scores, "") },
  { title: "User", words: true, cell: (row) => row.user || "" },
  { title: "Agents", words: true, cell: (row) => html`<${Clip} text=${row.agents.join(", ")} />` },
];

export const sessions = listed({
  name: "sessions",
  title: "Sessions",
  columns: SESSIONS,
  rowsOf: (answer) => answer.sessions,
  keyOf: (row) => `${row.session} ${row.experiment_id}`,
  none: html`<${Empty} title="No sessions match.">
    <p class="quiet">
      The attribute session.id assigns a trace to a session. instrumentation.session() sets it, as do
      OpenInference and others.
    </p>
  <//>`,
  live: true,
});
