// @ts-check
// Where time and money go: models, agents, tools, users, errors and scores, the largest first. Every number leads
// to its rows.

import { columns } from "./charts.js";
import { Clip, Meter, Moment, NumberLink, Spark, Table, useAnswer } from "./components.js";
import { address, compact, duration, money, number, scoreNumber, share, without } from "./parts.js";
import { html } from "./view.js";

const SHOWN_ERRORS = 8;
// what is asked for after the rest of the overview is asked again more seldom
const AGAIN_MILLISECONDS = 15000;

/**
 * Columns of a table of groups: [title, metric or (values) -> value, format, filters and order of its rows]; the
 * first one names the group, the last one is the cost with its share of the cost of `groups`, if there are any.
 * Every number leads to its rows: to the errors where `rows` is "errors", else to traces.
 */
function groupColumns(title, filter, asked, cells, groups = []) {
  const valueOf = ({ key }) => Object.values(key)[0];
  const into = (group, rows) => {
    const own = { ...asked, [filter]: valueOf(group) };
    return rows === "errors"
      ? `#/errors${address("", without(own, "status", "score"))}`
      : `#/traces${address("", { ...own, ...rows })}`;
  };
  const linked = (group, said, rows) =>
    valueOf(group) === null || said === ""
      ? said
      : html`<${NumberLink} href=${into(group, rows)} said=${said} />`;
  const named = (group) =>
    valueOf(group) === null ? "not set" : html`<a href=${into(group, {})}>${valueOf(group)}</a>`;
  const column = ([head, metric, say, rows = {}]) => ({
    title: head,
    cell: (group) => linked(group, say(valueIn(group, metric)), rows),
  });
  const whole = groups.reduce((sum, { values }) => sum + (values.cost_usd || 0), 0);
  const cost = {
    title: "Cost",
    cell: (group) =>
      html`${linked(group, money(group.values.cost_usd), { sort: "-cost" })}
      ${group.values.cost_usd && html`<${Meter} part=${group.values.cost_usd / whole} />`}`,
  };
  return [{ title, words: true, cell: named }, ...cells.map(column), ...(groups.length ? [cost] : [])];
}

const valueIn = ({ values }, metric) => (typeof metric === "function" ? metric(values) : values[metric]);
const slowest = { sort: "-duration" };
/** How long all traces of a group took together. */
const together = ({ count, duration_seconds_mean: mean }) => (mean === null ? null : count * mean);
const TRACES_TIME = ["Time", together, duration, slowest];
const OWN_TIME = ["Own time", "self_seconds", duration, slowest];

function Block({ title, groups, columns: cells, none = "No data.", wide = false }) {
  return html`<section class=${wide ? "wide-block" : ""}>
    <h2>${title}</h2>
    ${
      groups.length
        ? html`<${Table} label=${title} columns=${cells} rows=${groups} />`
        : html`<p class="quiet">${none}</p>`
    }
  </section>`;
}

export function Tops({ found, asked, into }) {
  const again = Math.floor(Date.now() / AGAIN_MILLISECONDS);
  const about = JSON.stringify(asked);
  const calls = [
    ["Calls", "count", number.format],
    ["Errors", "error_rate", share, "errors"],
  ];
  const failed = ["Errors", "error_rate", share, { status: "ERROR" }];
  const p95 = ["p95", "duration_seconds_p95", duration, { sort: "-duration" }];
  const models = groupColumns("Model", "model", asked, [...calls, p95, OWN_TIME], found.models);
  const tools = groupColumns("Tool", "tool", asked, [
    ...calls,
    ["Retries", "recovered_retries", number.format],
    p95,
    OWN_TIME,
  ]);
  const agents = groupColumns(
    "Agent",
    "agent",
    asked,
    [["Traces", "count", number.format], failed, p95, TRACES_TIME],
    found.agents,
  );
  const scores = groupColumns("Score", "score", asked, [
    ["Count", "count", number.format],
    ["Mean", "score_mean", (mean) => (mean === null ? "" : scoreNumber(mean))],
    ["Passed", "pass_rate", (rate) => (rate === null ? "" : share(rate))],
  ]);
  return html`<div class="tops">
    <${Block} title="Models" groups=${found.models} columns=${models} />
    <${Block} title="Agents" groups=${found.agents} columns=${agents} />
    <${Block} title="Tools" groups=${found.tools} columns=${tools} />
    <${Users} key=${`users ${about}`} ...${{ asked, again }} />
    <${Errors} key=${`errors ${about}`} ...${{ asked, into, again }} />
    <${Block}
      title="Scores"
      groups=${found.scores}
      columns=${scores}
      none="No scores: log evaluations to see them."
      wide
    />
  </div>`;
}

function Users({ asked, again }) {
  const metrics = ["cost_usd", "count", "error_rate", "total_tokens", "duration_seconds_mean"];
  const path = address("traces/stats", { ...asked, by: "user", metric: metrics, top: 8 });
  const { body, error } = useAnswer(path, again);
  const groups = (body ? body.groups : []).filter(({ key }) => key.user !== null);
  const cells = groupColumns(
    "User",
    "user",
    asked,
    [
      ["Traces", "count", number.format],
      ["Errors", "error_rate", share, { status: "ERROR" }],
      ["Tokens", "total_tokens", compact, { sort: "-tokens" }],
      TRACES_TIME,
    ],
    groups,
  );
  const none = error || (body ? "No trace names a user: set user.id on its spans." : "Loading…");
  return html`<${Block} title="Users" groups=${groups} none=${none} columns=${cells} />`;
}

/** Groups of errors with the first time and the trend. */
function Errors({ asked, into, again }) {
  const { status, ...filters } = asked;
  const about = { ...filters, trace_status: status };
  const { body, error } = useAnswer(address("traces/errors", { ...about, limit: SHOWN_ERRORS }), again);
  const trend = useAnswer(
    address("traces/stats", {
      ...about,
      of: "errors",
      by: "error",
      metric: "count",
      bucket: "auto",
      top: 50,
    }),
    again,
  );
  const linked = (row, count) =>
    html`<${NumberLink} href=${into({ error: row.error })} said=${number.format(count)} />`;
  const cells = [
    {
      title: "Message",
      words: true,
      cell: (row) => html`<a href=${into({ error: row.error })}>${row.error}</a>`,
    },
    { title: "Type", words: true, cell: (row) => html`<${Clip} text=${row.type || ""} />` },
    { title: "Traces", cell: (row) => linked(row, row.traces) },
    { title: "Spans", cell: (row) => linked(row, row.spans) },
    { title: "Trend", words: true, cell: (row) => html`<${Trend} stats=${trend.body} error=${row.error} />` },
    { title: "First seen", words: true, cell: (row) => html`<${Moment} ns=${row.first_unix_ns} />` },
    { title: "Last seen", words: true, cell: (row) => html`<${Moment} ns=${row.last_unix_ns} />` },
  ];
  const none = error || (body ? "No errors." : "Loading…");
  return html`<${Block}
    title="Errors"
    groups=${body ? body.errors : []}
    columns=${cells}
    none=${none}
    wide
  />`;
}

/** How often an error occurred, step by step. */
export function Trend({ stats, error }) {
  const values = stats && trendsOf(stats).get(error);
  return values ? html`<${Spark} values=${values} tone="bad" />` : html`<span class="spark"></span>`;
}

/** @type {WeakMap<any, Map<string, number[]>>} */
const trends = new WeakMap();

/** How often each error occurred at each step that any of them has, once for all rows of a table. */
export function trendsOf(stats) {
  const found = trends.get(stats) || new Map();
  if (trends.has(stats)) return found;
  trends.set(stats, found);
  const groups = stats.groups.filter(({ series }) => series);
  const starts = groups
    .flatMap(({ series }) => series.map((step) => step.start_unix_ns))
    .sort((a, b) => a - b);
  const ends = starts.length ? [starts[0], starts[starts.length - 1]] : [];
  const { xs } = columns(
    ends.map((start_unix_ns) => ({ start_unix_ns, values: {} })),
    stats.bucket_seconds,
    [],
  );
  for (const { key, series } of groups) {
    const known = new Map(
      series.map((step) => [Math.round(step.start_unix_ns / 1e9), step.values.count || 0]),
    );
    found.set(
      key.error,
      xs.map((x) => known.get(x) || 0),
    );
  }
  return found;
}
