// @ts-check
// Calls of tools and of models as tables: how often, how fast, at what cost, with how many errors.

import { Meter, NumberLink, Table } from "./components.js";
import { Filters, filtersOf } from "./filters.js";
import { CompareLink, count, NoRows } from "./lists.js";
import { address, compact, duration, get, money, number, share, without } from "./parts.js";
import { html } from "./view.js";

const CALLS = {
  tools: [["recovered_retries", "Retries", number.format]],
  models: [
    ["time_to_first_token_seconds_p50", "First token p50", duration],
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
    return { asked, found: await get(path) };
  };
  const Show = ({ data: { found, asked }, go }) => {
    const rows = without(asked, "sort");
    const into = (more) => `#/traces${address("", { ...rows, ...more })}`;
    const busy = found.total.self_seconds || 0;
    const value = (name, head, say) => ({ title: head, sort: name, cell: ({ values }) => say(values[name]) });
    const linked = (name, head, say, leads) => ({
      ...value(name, head, say),
      cell: ({ key, values }) =>
        html`<${NumberLink}
          href=${key[by] === null ? "" : leads({ [by]: key[by] })}
          said=${say(values[name])}
        />`,
    });
    const intoErrors = (more) => `#/errors${address("", { ...rows, ...more })}`;
    const columns = [
      {
        title,
        cell: ({ key }) =>
          key[by] === null ? "not set" : html`<a href=${into({ [by]: key[by] })}>${key[by]}</a>`,
      },
      linked("count", "Calls", number.format, into),
      linked("traces", "Traces", number.format, into),
      linked("errors", "Errors", (said) => count(said, "bad"), intoErrors),
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
      <${Filters} asked=${asked} go=${go} names=${filtersOf("spans")} />
      ${
        found.groups.length
          ? html`<${Table}
              label="${title}s"
              ...${{ columns, rows: found.groups, sort: asked.sort, onSort }}
              keyOf=${({ key }) => key[by]}
            />`
          : html`<${NoRows} title=${`No ${title.toLowerCase()} calls match.`} />`
      }`;
  };
  return { title: `${title}s`, load, Show, live: true };
}

export const tools = callsView("tools", "tool", "Tool");
export const models = callsView("models", "model", "Model");
