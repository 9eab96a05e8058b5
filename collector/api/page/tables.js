// @ts-check
// A session with its turns.

import { ago, compact, duration, get, link, make, money, number, pill, scoreText, table } from "./parts.js";

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

export async function session(id) {
  const found = await get(`sessions/${encodeURIComponent(id).replaceAll("%2F", "/")}`);
  const sums = found.sessions[0];
  const figures = [
    ["Turns", number.format(sums.turns)],
    ["Errors", number.format(sums.errors)],
    ["Busy time", duration(sums.busy_seconds)],
    ["First to last turn", duration(sums.duration_seconds)],
    ["Tokens", compact(sums.total_tokens)],
    ["Cost", money(sums.cost_usd)],
    ["User", sums.user],
  ].filter(([, said]) => said);
  return [
    make("h2", { text: id }),
    make("ul", {
      className: "figures",
      children: figures.map(([label, said]) =>
        make("li", { children: [make("b", { text: said }), make("span", { text: label })] }),
      ),
    }),
    table(
      "Turns",
      [
        { title: "Turn", cell: traceLink },
        ...TRACES.slice(1).map((column) => ({ ...column, sort: undefined })),
      ],
      found.turns,
    ),
    found.turns_omitted
      ? make("p", { className: "quiet", text: `and ${number.format(found.turns_omitted)} more turns` })
      : null,
  ].filter(Boolean);
}
