// @ts-check
// Traces, sessions, errors and tools as tables, with their filters. The filters are in the address, so a view can be
// shared as a link.

import { Clip, Empty, HowToSend, Meter, Moment, Pill, Table, useAnswer } from "./components.js";
import { before } from "./drivers.js";
import { Filters, filtersOf } from "./filters.js";
import {
  address,
  compact,
  duration,
  get,
  knownFacets,
  money,
  number,
  scoreText,
  share,
  without,
} from "./parts.js";
import { Trend } from "./tops.js";
import { html, useState } from "./view.js";

const SHOWN = 50;

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
function CompareLink({ asked }) {
  const filters = without(asked, "since", "until", "sort", "cursor");
  const href = `#/compare${address("", { ...filters, ...before(asked.since, asked.until) })}`;
  return html`<a class="compare-link" href=${href}>Compare with before</a>`;
}

/**
 * A view of rows: filters, a table, pages. `rowsOf(answer)` are the rows, `none(facets)` what stands in their place,
 * `beside(a, b)` the address of two of them side by side, by their keys, if there is one.
 * @param {{title: string, path: string, since: string, sort: string, columns: any[], rowsOf: (answer: any) => any[],
 *   keyOf: (row: any) => any, none: (facets: any) => any, follows?: any, live?: boolean,
 *   beside?: ((a: string, b: string) => string) | null}} what
 */
function listed({ title, path, since, sort, columns, rowsOf, keyOf, none, beside = null, ...rest }) {
  const load = async ({ parameters }) => {
    const asked = { since, sort, ...parameters, limit: SHOWN };
    const [found, facets] = await Promise.all([get(address(path, asked)), knownFacets()]);
    return { found, facets, asked };
  };
  const Show = ({ data: { found, facets, asked }, go }) => {
    const { cursor } = asked;
    const filters = without(asked, "cursor", "limit");
    const rows = rowsOf(found);
    const onSort = (wanted) => go({ ...filters, sort: wanted });
    const [marked, setMarked] = useState(/** @type {string[]} */ ([]));
    const shown = beside ? withBoxes(columns, keyOf, marked, setMarked) : columns;
    return html`<div class="heading">
        <h2>${title}</h2>
        <${Exports} path=${path} asked=${filters} />
      </div>
      <${Filters} asked=${filters} facets=${facets} go=${go} />
      ${beside && marked.length > 0 && html`<${Chosen} ...${{ marked, setMarked, beside }} />`}
      ${
        rows.length
          ? html`<${Table} label=${title} ...${{ columns: shown, rows, sort: asked.sort, onSort, keyOf }} />`
          : none(facets)
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

const noRows = (title, facets) =>
  facets.experiment.length
    ? html`<${Empty} title=${title}><p class="quiet">Remove a filter or choose a longer time range.</p><//>`
    : html`<${Empty} title="No traces yet."><${HowToSend} /><//>`;

export const traces = listed({
  title: "Traces",
  path: "traces",
  since: "-24h",
  sort: "-start",
  columns: TRACES,
  rowsOf: (answer) => answer.traces,
  keyOf: (row) => row.trace_id,
  beside: (a, b) => address("#/beside", { a, b }),
  none: (facets) => noRows("No traces match.", facets),
  live: true,
  follows: ({ parameters }) => (parameters.cursor ? null : { since: "-24h", ...parameters, sort: "" }),
});

// ---- sessions

const count = (value, tone) => (value ? html`<span class=${tone}>${number.format(value)}</span>` : "");

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
  title: "Sessions",
  path: "sessions",
  since: "-7d",
  sort: "-last",
  columns: SESSIONS,
  rowsOf: (answer) => answer.sessions,
  keyOf: (row) => `${row.session} ${row.experiment_id}`,
  none: () =>
    html`<${Empty} title="No sessions match.">
      <p class="quiet">
        The attribute session.id assigns a trace to a session. instrumentation.session() sets it, as do
        OpenInference and others.
      </p>
    <//>`,
  live: true,
});

// ---- errors

function errorColumns(into, trend) {
  const listOf = (values) => html`<${Clip} text=${values.join(", ")} />`;
  return [
    {
      title: "Message",
      cell: (row) =>
        html`<a href=${into({ error: row.error })} title=${row.example_message || row.error}
          >${row.error}</a
        >`,
    },
    { title: "Type", words: true, cell: (row) => html`<${Clip} text=${row.type || ""} />` },
    { title: "Traces", sort: "traces", cell: (row) => number.format(row.traces) },
    { title: "Spans", sort: "spans", cell: (row) => number.format(row.spans) },
    { title: "Trend", words: true, cell: (row) => html`<${Trend} stats=${trend} error=${row.error} />` },
    {
      title: "First seen",
      words: true,
      sort: "first",
      cell: (row) => html`<${Moment} ns=${row.first_unix_ns} />`,
    },
    {
      title: "Last seen",
      words: true,
      sort: "last",
      cell: (row) => html`<${Moment} ns=${row.last_unix_ns} />`,
    },
    { title: "In", words: true, cell: (row) => listOf([...row.agents, ...row.models, ...row.tools]) },
    {
      title: "Example",
      words: true,
      cell: (row) => html`<a href="#/trace/${row.example_trace_id}">open</a>`,
    },
  ];
}

async function loadErrors({ parameters }) {
  const asked = { since: "-24h", sort: "-traces", ...parameters, limit: SHOWN };
  const [found, facets] = await Promise.all([get(address("traces/errors", asked)), knownFacets()]);
  return { found, facets, asked };
}

function ShowErrors({ data: { found, facets, asked }, go }) {
  const filters = without(asked, "limit");
  const rows = without(filters, "sort");
  const about = { ...rows, of: "errors", by: "error", metric: "count", bucket: "auto", top: 100 };
  const { body } = useAnswer(address("traces/stats", about), Math.floor(Date.now() / 30000));
  const columns = errorColumns((more) => `#/traces${address("", { ...rows, ...more })}`, body);
  const onSort = (sort) => go({ ...filters, sort });
  return html`<div class="heading">
      <h2>Errors</h2>
      <p class="quiet small exports">
        <${CompareLink} asked=${rows} /> Messages that differ only in ids, numbers and names are one row.
      </p>
    </div>
    <${Filters} asked=${filters} facets=${facets} go=${go} names=${filtersOf("spans")} />
    ${
      found.errors.length
        ? html`<${Table}
            label="Errors"
            ...${{ columns, rows: found.errors, sort: asked.sort, onSort }}
            keyOf=${(row) => row.error}
          />`
        : html`<${Empty} title="No errors.">
            <p class="quiet">
              No span failed in this time, for these filters. Retries that succeeded are not errors.
            </p>
          <//>`
    }`;
}

export const errors = { title: "Errors", load: loadErrors, Show: ShowErrors, live: true };

// ---- tools and models

const CALLS = {
  tools: [["recovered_retries", "Retries", number.format]],
  models: [
    ["total_tokens", "Tokens", compact],
    ["cost_usd", "Cost", money],
  ],
};
const CALL_METRICS = [
  "count",
  "traces",
  "errors",
  "error_rate",
  "duration_seconds_p50",
  "duration_seconds_p95",
  "self_seconds",
];

function callsView(of, by, title) {
  const own = CALLS[of];
  const load = async ({ parameters }) => {
    const asked = { since: "-24h", sort: "-count", ...parameters };
    const { sort, ...filters } = asked;
    const metric = [...CALL_METRICS, ...own.map(([name]) => name)];
    const path = address("traces/stats", { ...filters, of, by, metric, order: sort, top: 200 });
    const [found, facets] = await Promise.all([get(path), knownFacets()]);
    return { found, facets, asked };
  };
  const Show = ({ data: { found, facets, asked }, go }) => {
    const rows = without(asked, "sort");
    const into = (more) => `#/traces${address("", { ...rows, ...more })}`;
    const busy = found.total.self_seconds || 0;
    const value = (name, head, say) => ({ title: head, sort: name, cell: ({ values }) => say(values[name]) });
    const columns = [
      {
        title,
        cell: ({ key }) =>
          key[by] === null ? "not set" : html`<a href=${into({ [by]: key[by] })}>${key[by]}</a>`,
      },
      value("count", "Calls", number.format),
      value("traces", "Traces", number.format),
      value("errors", "Errors", (said) => count(said, "bad")),
      value("error_rate", "Error rate", share),
      value("duration_seconds_p50", "p50", duration),
      value("duration_seconds_p95", "p95", duration),
      value(
        "self_seconds",
        "Own time",
        (said) => html`${duration(said)}<${Meter} part=${busy ? (said || 0) / busy : 0} />`,
      ),
      ...own.map(([name, head, say]) => value(name, head, say)),
    ];
    const onSort = (sort) => go({ ...asked, sort });
    const other = of === "tools" ? "models" : "tools";
    return html`<div class="heading">
        <h2>${title}s</h2>
        <p class="small exports">
          <${CompareLink} asked=${rows} />
          <a href="#/${other}${address("", rows)}">${other === "tools" ? "Tools" : "Models"}</a>
        </p>
      </div>
      <${Filters} asked=${asked} facets=${facets} go=${go} names=${filtersOf("spans")} />
      ${
        found.groups.length
          ? html`<${Table}
              label="${title}s"
              ...${{ columns, rows: found.groups, sort: asked.sort, onSort }}
              keyOf=${({ key }) => key[by]}
            />`
          : noRows(`No ${title.toLowerCase()} calls match.`, facets)
      }`;
  };
  return { title: `${title}s`, load, Show, live: true };
}

export const tools = callsView("tools", "tool", "Tool");
export const models = callsView("models", "model", "Model");
