// @ts-check
// Errors as a table: messages that differ only in ids, numbers and names are one row.

import { Clip, Empty, Moment, Table, useAnswer } from "./components.js";
import { Filters, filtersOf } from "./filters.js";
import { listAsked, listPath } from "./first.js";
import { CompareLink } from "./lists.js";
import { address, get, number, without } from "./parts.js";
import { Trend } from "./tops.js";
import { html } from "./view.js";

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

async function load({ parameters }) {
  const asked = listAsked("errors", parameters);
  return { asked, found: await get(listPath("errors", asked)) };
}

function Show({ data: { found, asked }, go }) {
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
    <${Filters} asked=${filters} go=${go} names=${filtersOf("spans")} />
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

export const errors = { title: "Errors", load, Show, live: true };
