// @ts-check
// Two sides compared: times, versions, models, prompts or any other filter; what changed, by how much, and whether
// there are enough samples to say so. Runs are compared in runs.js.

import { countsDiffer, durationsDiffer, enough, meansDiffer, sharesDiffer, sumsDiffer } from "./chance.js";
import { Change, Empty, Select, Table } from "./components.js";
import { RANGES } from "./overview.js";
import { address, compact, duration, get, money, number, share, without } from "./parts.js";
import { before } from "./periods.js";
import { html, useState } from "./view.js";

const KINDS = [
  ["time", "Two times"],
  ["version", "Versions"],
  ["model", "Models"],
  ["prompt", "Prompts"],
  ["agent", "Agents"],
  ["service", "Services"],
  ["environment", "Environments"],
  ["experiment_name", "Experiments"],
  ["user", "Users"],
];
const BREAKDOWNS = ["agent", "model", "tool", "service", "version", "user", "name", "error"].map((name) => [
  name,
  name,
]);
const METRICS = [
  ...["count", "error_rate", "duration_seconds_p50", "duration_seconds_p90", "duration_seconds_p95"],
  ...["time_to_first_token_seconds_p50", "total_tokens", "cost_usd", "model_calls_a_trace"],
  ...["tool_calls_a_trace", "recovered_retries_mean", "truncated_share", "model_calls"],
  ...["traces_with_cost", "traces_with_tokens", "cost_usd_mean", "total_tokens_mean"],
  ...["cost_usd_stddev", "total_tokens_stddev", "model_calls_stddev", "tool_calls_stddev"],
  "recovered_retries_stddev",
];
const SAID = {
  yes: ["good", "More than chance"],
  no: ["quiet", "Could be chance"],
  few: ["warn", "Too few samples"],
  enough: ["quiet", "Enough samples"],
};

const side = (parameters, name) =>
  Object.fromEntries(
    Object.entries(parameters).flatMap(([key, value]) =>
      key.startsWith(`${name}.`) ? [[key.slice(2), value]] : [],
    ),
  );
const common = (parameters) =>
  Object.fromEntries(Object.entries(parameters).filter(([key]) => !/^[ab]\.|^(by|kind)$/.test(key)));

/** What sets the sides apart: "time", or the name of a filter. */
function kindOf(parameters) {
  if (KINDS.some(([kind]) => kind === parameters.kind)) return parameters.kind;
  const [name] = Object.keys({ ...side(parameters, "a"), ...side(parameters, "b") }).filter(
    (each) => !["since", "until"].includes(each),
  );
  return name || "time";
}

/** Whether both sides are as long, to a minute: only then can their sums be compared. */
function areEqualTimes(asked) {
  const [one, other] = ["a", "b"].map((name) => side(asked, name)).map(({ since, until }) => until - since);
  return Math.abs(one - other) < 60;
}

/** What isn't in the address: the last day and the one before, or the last week for sides that aren't times. */
function withDefaults(parameters) {
  if (kindOf(parameters) !== "time") return { since: "-7d", ...parameters };
  const isThere = Object.keys(parameters).some((name) => /^[ab]\./.test(name));
  return isThere ? parameters : { ...parameters, ...before("-24h", "") };
}

async function load({ parameters }) {
  const asked = withDefaults(parameters);
  const { by = "agent" } = asked;
  const sides = without(asked, "by", "kind");
  const kind = kindOf(asked);
  const chosen = kind === "time" || (side(asked, "a")[kind] && side(asked, "b")[kind]);
  const question = (more) => address("traces/compare", { ...sides, metric: METRICS, ...more });
  const [values, totals, groups] = await Promise.all([
    valuesOf(kind, common(asked)),
    chosen ? get(question({})) : null,
    chosen ? get(question({ by, top: 20 })) : null,
  ]);
  return { asked, kind, by, values, totals, groups };
}

/** What the filter may be set to, the most frequent first. */
async function valuesOf(kind, asked) {
  const { since, until } = asked;
  if (kind === "time") return [];
  const by = kind === "experiment_name" ? "experiment" : kind;
  const { groups } = await get(address("traces/stats", { since, until, by, metric: "count", top: 200 }));
  return groups.map(({ key }) => key[by]).filter((value) => value !== null);
}

function Show({ data: { asked, kind, by, values, totals, groups }, go }) {
  const form = html`<${Sides} ...${{ asked, kind, values, by, go }} key=${kind} />`;
  if (!totals)
    return html`<h2>Compare</h2>
      ${form}
      <${Empty} title="Choose both sides.">
        <p class="quiet">
          ${values.length < 2 ? `There are fewer than two values of ${kind} in this time.` : "Each side is one value."}
        </p>
      <//>`;
  const into = (name, more = {}) =>
    `#/traces${address("", { ...common(asked), ...side(asked, name), ...more })}`;
  const { a, b } = totals.total.count;
  const isTime = kind === "time" && areEqualTimes(asked);
  if (!a && !b)
    return html`<h2>Compare</h2>
      ${form}<${Empty} title="No traces match on either side."
        ><p class="quiet">Choose other times or values.</p><//
      >`;
  return html`<h2>Compare</h2>
    ${form} <${Whole} total=${totals.total} into=${into} isTime=${isTime} />
    <${Groups} ...${{ groups, by, into, isTime }} />`;
}

export const versus = { title: "Compare", load, Show };

// ---- what is compared

function Sides({ asked, kind, values, by, go }) {
  const rest = common(asked);
  const change = (wanted) => go((now) => ({ ...asked, ...now, ...wanted }));
  const start = (wanted) =>
    wanted === "time"
      ? go({ ...rest, since: "", until: "", by, ...before("-24h", "") })
      : go({ ...rest, since: rest.since || "-7d", by, kind: wanted });
  return html`<form class="bar" onSubmit=${(event) => event.preventDefault()}>
    <${Select} id="compare-kind" label="Compare" options=${KINDS} chosen=${kind} onChange=${start} />
    ${
      kind === "time"
        ? html`<${Times} name="a" asked=${asked} change=${change} />
            <${Times} name="b" asked=${asked} change=${change} />`
        : html`${["a", "b"].map(
              (name) =>
                html`<${Select}
                  key=${name}
                  id="compare-${name}"
                  label=${name.toUpperCase()}
                  options=${values.map((value) => [value, value])}
                  chosen=${side(asked, name)[kind] || ""}
                  other="Choose…"
                  onChange=${(value) => change({ [`${name}.${kind}`]: value })}
                />`,
            )}
            <${Select}
              ...${{ id: "range", label: "Time range", options: RANGES, other: "Custom range" }}
              chosen=${asked.since}
              onChange=${(since) => change({ since, until: "" })}
            />`
    }
    <${Select}
      id="compare-by"
      label="By"
      options=${BREAKDOWNS}
      chosen=${by}
      onChange=${(wanted) => change({ by: wanted })}
    />
  </form>`;
}

/** As a field for dates and times has it; summer time is that of the moment, not today's. */
export const local = (seconds) => {
  const date = new Date(Number(seconds) * 1000);
  const shifted = new Date(date.getTime() - date.getTimezoneOffset() * 60000);
  return Number.isNaN(shifted.getTime()) ? "" : shifted.toISOString().slice(0, 16);
};

/** From when to when a side is, in the reader's zone. */
function Times({ name, asked, change }) {
  const own = side(asked, name);
  const field = (which) => {
    const set = (event) => {
      const moment = new Date(event.target.value).getTime();
      if (moment) change({ [`${name}.${which}`]: String(moment / 1000) });
    };
    return html`<input
      type="datetime-local"
      id="compare-${name}-${which}"
      aria-label=${`${name.toUpperCase()} ${which === "since" ? "from" : "to"}`}
      value=${local(own[which])}
      onChange=${set}
    />`;
  };
  return html`<fieldset class="times">
    <legend>${name.toUpperCase()}</legend>
    ${field("since")} ${field("until")}
  </fieldset>`;
}

// ---- what came out

const of = (total, name) =>
  Object.fromEntries(Object.entries(total).map(([metric, both]) => [metric, both[name]]));

const sample =
  (mean, deviation, count = "count") =>
  (values) => ({
    n: values[count] || 0,
    mean: values[mean],
    deviation: values[deviation],
  });
const costs = sample("cost_usd_mean", "cost_usd_stddev", "traces_with_cost");
const shares = (rate, count) => (values) => ({ n: values[count] || 0, share: values[rate] || 0 });
const percentiles = (values) => ({
  n: values.count || 0,
  p50: values.duration_seconds_p50,
  p90: values.duration_seconds_p90,
  p95: values.duration_seconds_p95,
});

// How a figure is judged: (values of a, values of b, whether both are times of the same length) -> {said, low, high}
const verdictOf = (said) => ({ said });
const asCounts = (a, b, isTime) => verdictOf(isTime ? countsDiffer(a.count || 0, b.count || 0) : null);
const asCosts = (a, b, isTime) => verdictOf(isTime ? sumsDiffer(costs(a), costs(b)) : null);
const asShares = (read) => (a, b) => verdictOf(sharesDiffer(read(a), read(b)));
const asPercentiles = (which) => (a, b) => verdictOf(durationsDiffer(which, percentiles(a), percentiles(b)));
const asMeans = (read) => (a, b) => meansDiffer(read(a), read(b));
const asEnough = (a, b) => verdictOf(enough(a.count || 0, b.count || 0) === "few" ? "few" : "enough");

/** @type {any[]} title, value, format, whether more is worse, how it is judged */
const ROWS = [
  ["Traces", (values) => values.count, number.format, null, asCounts],
  ["Error rate", (values) => values.error_rate, share, true, asShares(shares("error_rate", "count"))],
  ["Duration p50", (values) => values.duration_seconds_p50, duration, true, asPercentiles("p50")],
  ["Duration p95", (values) => values.duration_seconds_p95, duration, true, asPercentiles("p95")],
  ["Time to first token p50", (values) => values.time_to_first_token_seconds_p50, duration, true, asEnough],
  ["Cost", (values) => values.cost_usd, money, null, asCosts],
  ["Cost a trace", (values) => values.cost_usd_mean, money, true, asMeans(costs)],
  [
    "Tokens a trace",
    (values) => values.total_tokens_mean,
    (value) => compact(Math.round(value)),
    true,
    asMeans(sample("total_tokens_mean", "total_tokens_stddev", "traces_with_tokens")),
  ],
  [
    "Model calls a trace",
    (values) => values.model_calls_a_trace,
    (value) => value.toFixed(2),
    null,
    asMeans(sample("model_calls_a_trace", "model_calls_stddev")),
  ],
  [
    "Tool calls a trace",
    (values) => values.tool_calls_a_trace,
    (value) => value.toFixed(2),
    null,
    asMeans(sample("tool_calls_a_trace", "tool_calls_stddev")),
  ],
  [
    "Retries a trace",
    (values) => values.recovered_retries_mean,
    (value) => value.toFixed(2),
    true,
    asMeans(sample("recovered_retries_mean", "recovered_retries_stddev")),
  ],
  [
    "Truncated answers",
    (values) => values.truncated_share,
    share,
    true,
    asShares(shares("truncated_share", "model_calls")),
  ],
];

/** How sure it is, and, of a mean, between which bounds the difference is. */
function Verdict({ judged: { said, low, high }, say }) {
  if (!said) return null;
  const [tone, text] = SAID[said];
  const signed = (value) => `${value < 0 ? "−" : "+"}${say(Math.abs(value))}`;
  return html`<span class=${tone === "good" ? "sure" : tone}>${text}</span>
    ${low !== undefined && low < high && html` <span class="quiet small">${signed(low)} to ${signed(high)}</span>`}`;
}

function Whole({ total, into, isTime }) {
  const [a, b] = [of(total, "a"), of(total, "b")];
  const rows = ROWS.filter(([, read]) => read(a) !== null || read(b) !== null);
  const said = (value, say) => (value === null || value === undefined ? "–" : say(value));
  const columns = [
    { title: "Metric", words: true, cell: ([title]) => title },
    { title: "A", cell: ([, read, say]) => html`<a href=${into("a")}>${said(read(a), say)}</a>` },
    { title: "B", cell: ([, read, say]) => html`<a href=${into("b")}>${said(read(b), say)}</a>` },
    {
      title: "Change",
      words: true,
      cell: ([, read, say, worse, judge]) => {
        const { said: sure } = judge(a, b, isTime);
        const few = Boolean(sure) && sure !== "yes";
        return html`<${Change} before=${read(a)} now=${read(b)} ...${{ worse, say, few }} from="" />`;
      },
    },
    {
      title: "Certainty",
      words: true,
      cell: ([, , say, , judge]) => html`<${Verdict} judged=${judge(a, b, isTime)} say=${say} />`,
    },
  ];
  return html`<${Table} label="Comparison" columns=${columns} rows=${rows} />`;
}

function Groups({ groups, by, into, isTime }) {
  const [sort, setSort] = useState("-cost");
  const keyed = { count: "count", errors: "error_rate", p50: "duration_seconds_p50", cost: "cost_usd" };
  const name = keyed[sort.replace("-", "")];
  const sign = sort.startsWith("-") ? -1 : 1;
  const difference = ({ values }) => Math.abs((values[name].b || 0) - (values[name].a || 0));
  const rows = [...groups.groups].sort((one, other) => sign * (difference(one) - difference(other)));
  const cell = (metric, say, worse, judge) => (row) => {
    const [a, b] = [of(row.values, "a"), of(row.values, "b")];
    const { said } = judge(a, b, isTime);
    const value = b[metric] === null ? "–" : say(b[metric]);
    return html`${value}${" "}<${Change}
        before=${a[metric]}
        now=${b[metric]}
        say=${say}
        worse=${worse}
        few=${Boolean(said) && said !== "yes"}
        from="A"
      />`;
  };
  const rowsLink = (side, value) =>
    html`<a class="small" href=${into(side, { [by]: value })} title="Traces of side ${side.toUpperCase()}"
      >${side.toUpperCase()}</a
    >`;
  const columns = [
    {
      title: by,
      words: true,
      cell: ({ key }) =>
        key[by] === null ? "not set" : html`${key[by]} ${rowsLink("a", key[by])} ${rowsLink("b", key[by])}`,
    },
    { title: "Traces", sort: "count", cell: cell("count", number.format, null, asCounts) },
    {
      title: "Error rate",
      sort: "errors",
      cell: cell("error_rate", share, true, asShares(shares("error_rate", "count"))),
    },
    {
      title: "Duration p50",
      sort: "p50",
      cell: cell("duration_seconds_p50", duration, true, asPercentiles("p50")),
    },
    { title: "Cost", sort: "cost", cell: cell("cost_usd", money, null, asCosts) },
  ];
  return html`<h2>By ${by}, most changed first</h2>
    <${Table}
      label=${`By ${by}`}
      ...${{ columns, rows, sort, onSort: setSort }}
      keyOf=${({ key }) => key[by]}
    />`;
}
