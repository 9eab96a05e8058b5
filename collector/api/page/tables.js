// @ts-check
// Traces with filters, and sessions. The filters are in the address, so a view can be shared as a link.

import {
  address,
  ago,
  compact,
  duration,
  empty,
  get,
  howToSend,
  knownFacets,
  link,
  make,
  money,
  number,
  pill,
  scoreText,
  table,
} from "./parts.js";
import { select } from "./overview.js";

const TIMES = [
  ["-15m", "Last 15 minutes"],
  ["-1h", "Last hour"],
  ["-24h", "Last day"],
  ["-7d", "Last week"],
  ["-30d", "Last month"],
  ["0", "All time"],
];
const STATUSES = [
  ["", "Any"],
  ["OK", "OK"],
  ["ERROR", "ERROR"],
  ["UNKNOWN", "UNKNOWN"],
];
const TEXTS = [
  ["experiment_name", "Experiment", "experiment"],
  ["service", "Service", "service"],
  ["agent", "Agent", "agent"],
  ["model", "Model", "model"],
  ["response_model", "Answering model", "response_model"],
  ["tool", "Tool", "tool"],
  ["name", "Name", "name"],
  ["user", "User", "user"],
  ["session", "Session"],
  ["run_id", "Run"],
  ["tag", "Tag"],
  ["score", "Score"],
  ["error", "Error"],
  ["min_duration_seconds", "Min. duration (s)"],
  ["min_cost_usd", "Min. cost ($)"],
];
const SHOWN = 50;

export const traceLink = (row) => link(row.name, `#/trace/${row.trace_id}`, { title: row.trace_id });

const TRACES = [
  { title: "Trace", sort: "name", cell: traceLink },
  { title: "Started", words: true, sort: "start", cell: (row) => ago(row.start_unix_ns) },
  { title: "Status", words: true, cell: (row) => pill(row.status) },
  { title: "Duration", sort: "duration", cell: (row) => duration(row.duration_seconds) },
  { title: "Spans", sort: "spans", wide: true, cell: (row) => number.format(row.span_count) },
  { title: "Tokens", sort: "tokens", wide: true, cell: (row) => compact(row.total_tokens) },
  {
    title: "Cost",
    sort: "cost",
    cell: (row) => `${row.unpriced_model_calls && row.cost_usd !== null ? "≥ " : ""}${money(row.cost_usd)}`,
  },
  { title: "Agent", words: true, wide: true, cell: (row) => row.agent || "" },
  { title: "Models", words: true, wide: true, cell: (row) => row.models.join(", ") },
  { title: "Service", words: true, wide: true, cell: (row) => row.service || "" },
  {
    title: "Scores",
    words: true,
    wide: true,
    cell: (row) => {
      const said = row.scores.map(scoreText).join(", ");
      return make("span", { className: "clip", text: said, title: said });
    },
  },
  {
    title: "Error",
    words: true,
    wide: true,
    cell: (row) =>
      make("span", {
        className: "bad clip",
        text: row.error_message || row.error_type || "",
        title: row.error_message || "",
      }),
  },
];

export async function traces(parameters, go) {
  const asked = { since: "-24h", sort: "-start", ...parameters, limit: SHOWN };
  const [found, facets] = await Promise.all([get(address("traces", asked)), knownFacets()]);
  const { cursor, ...first } = asked;
  const rest = without(first, "limit");
  const parts = [filters(rest, facets, go), exportsOf("traces", rest)];
  if (!found.traces.length) {
    parts.push(
      facets.experiment.length
        ? empty("No traces match.", "Remove a filter or choose a longer time range.")
        : empty("No traces yet.", howToSend()),
    );
    return parts;
  }
  parts.push(
    table("Traces", TRACES, found.traces, { sort: asked.sort, onSort: (sort) => go({ ...rest, sort }) }),
  );
  parts.push(pages(cursor, found.next_cursor, rest, go));
  return parts;
}

const SESSIONS = [
  { title: "Session", cell: (row) => link(row.session, `#/session/${encodeURIComponent(row.session)}`) },
  { title: "Last active", words: true, sort: "last", cell: (row) => ago(row.end_unix_ns) },
  { title: "Turns", sort: "turns", cell: (row) => number.format(row.turns) },
  {
    title: "Errors",
    sort: "errors",
    cell: (row) => (row.errors ? make("span", { className: "bad", text: number.format(row.errors) }) : ""),
  },
  { title: "Busy time", wide: true, cell: (row) => duration(row.busy_seconds) },
  { title: "Tokens", sort: "tokens", wide: true, cell: (row) => compact(row.total_tokens) },
  { title: "Cost", sort: "cost", cell: (row) => money(row.cost_usd) },
  { title: "Scores", wide: true, cell: (row) => (row.scores ? number.format(row.scores) : "") },
  { title: "User", words: true, wide: true, cell: (row) => row.user || "" },
  { title: "Agents", words: true, wide: true, cell: (row) => row.agents.join(", ") },
];

export async function sessions(parameters, go) {
  const asked = { since: "-7d", sort: "-last", ...parameters, limit: SHOWN };
  const [found, facets] = await Promise.all([get(address("sessions", asked)), knownFacets()]);
  const { cursor, ...first } = asked;
  const rest = without(first, "limit");
  const parts = [filters(rest, facets, go), exportsOf("sessions", rest)];
  if (!found.sessions.length) {
    parts.push(
      empty(
        "No sessions match.",
        "The attribute session.id assigns a trace to a session. instrumentation.session() sets it, as do " +
          "OpenInference and others.",
      ),
    );
    return parts;
  }
  parts.push(
    table("Sessions", SESSIONS, found.sessions, {
      sort: asked.sort,
      onSort: (sort) => go({ ...rest, sort }),
    }),
  );
  parts.push(pages(cursor, found.next_cursor, rest, go));
  return parts;
}

const without = (object, ...names) =>
  Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));

function filters(asked, facets, go) {
  const form = make("form", { className: "filters", role: "search", "aria-label": "Filters" });
  const change = (values) => go({ ...asked, ...values });
  const time = select("since", "Time range", TIMES, asked.since, (since) => change({ since, until: "" }));
  if (!TIMES.some(([value]) => value === asked.since))
    time.lastChild.prepend(make("option", { text: "Custom range", value: asked.since, selected: true }));
  form.append(
    time,
    select("status", "Status", STATUSES, asked.status || "", (status) => change({ status })),
  );
  for (const [name, label, facet] of TEXTS) {
    const input = make("input", {
      id: `filter-${name}`,
      name,
      value: asked[name] || "",
      list: facet ? `known-${name}` : null,
      placeholder: name === "score" ? "helpful<0.5" : "any",
      autocomplete: "off",
      spellcheck: "false",
    });
    input.addEventListener("change", () => change({ [name]: input.value.trim() }));
    const known = facet
      ? make("datalist", {
          id: `known-${name}`,
          children: facets[facet].map(({ value }) => make("option", { value })),
        })
      : null;
    form.append(
      make("label", {
        className: asked[name] ? "set" : "",
        children: [make("span", { text: label }), input, known],
      }),
    );
  }
  const clear = make("button", { type: "button", className: "plain", text: "Clear" });
  clear.addEventListener("click", () => go({}));
  form.append(clear);
  form.addEventListener("submit", (event) => event.preventDefault());
  return make("details", {
    className: "filtering",
    open: !matchMedia("(max-width: 44rem)").matches,
    children: [make("summary", { text: "Filters" }), form],
  });
}

function exportsOf(path, asked) {
  const all = without(asked, "cursor");
  return make("p", {
    className: "quiet small",
    children: [
      make("span", { text: "Export all rows as " }),
      link("CSV", address(path, { ...all, format: "csv" }), { download: `${path}.csv` }),
      make("span", { text: " or " }),
      link("Parquet", address(path, { ...all, format: "parquet" }), { download: `${path}.parquet` }),
    ],
  });
}

function pages(cursor, next, asked, go) {
  const row = make("p", { className: "pages" });
  if (cursor) {
    const first = make("button", { type: "button", className: "plain", text: "First page" });
    first.addEventListener("click", () => go(asked));
    row.append(first);
  }
  if (next) {
    const more = make("button", { type: "button", className: "plain", text: "Next page", id: "next-page" });
    more.addEventListener("click", () => go({ ...asked, cursor: next }));
    row.append(more);
  }
  return row;
}
