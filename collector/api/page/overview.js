// @ts-check
// The overview: totals and their changes, charts over time, and the top agents, models, tools, errors and
// scores.

import { chart, columns } from "./charts.js";
import {
  address,
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
  scoreNumber,
  share,
  table,
} from "./parts.js";

const RANGES = [
  ["-1h", "Last hour"],
  ["-24h", "Last day"],
  ["-7d", "Last week"],
  ["-30d", "Last month"],
  ["0", "All time"],
];
const FILTERS = [
  "experiment_id",
  "service",
  "environment",
  "agent",
  "model",
  "response_model",
  "tool",
  "status",
  "score",
];

/** Draws the view for the parameters in the address. */
export async function overview(parameters, go) {
  const since = parameters.since ?? "-24h";
  const filters = Object.fromEntries(
    FILTERS.filter((name) => parameters[name]).map((name) => [name, parameters[name]]),
  );
  const asked = { ...filters, since, until: parameters.until };
  const [found, facets] = await Promise.all([get(address("traces/overview", asked)), knownFacets()]);
  const parts = [bar(parameters, since, facets, go)];
  if (!found.totals.count.b) {
    const any = facets.experiment.length > 0;
    parts.push(
      any
        ? empty("No traces match.", "Choose a longer time range or remove filters.")
        : empty(
            "No traces yet.",
            howToSend(),
            make("p", {
              className: "quiet",
              text:
                "Traces appear here within two seconds. To import those that MLflow already holds, run " +
                "sidespan index backfill --experiment NAME.",
            }),
          ),
    );
    return parts;
  }
  const into = (more) => `#/traces${address("", { ...asked, ...more })}`;
  parts.push(cards(found.totals, into), charts(found, asked, go), tops(found, into));
  return parts;
}

function bar(parameters, since, facets, go) {
  const time = select(
    "range",
    "Time range",
    RANGES.map(([value, text]) => [value, text]),
    since,
    (value) => go({ ...parameters, since: value, until: "" }),
  );
  if (!RANGES.some(([value]) => value === since))
    time.lastChild.prepend(make("option", { text: "Custom range", value: since, selected: true }));
  const names = facets.experiment.map(({ value }) => [value, value]);
  const experiment = select(
    "experiment",
    "Experiment",
    [["", "All"], ...names],
    parameters.experiment_name || "",
    (value) => go({ ...parameters, experiment_name: value }),
  );
  const service = select(
    "service",
    "Service",
    [["", "All"], ...facets.service.map(({ value }) => [value, value])],
    parameters.service || "",
    (value) => go({ ...parameters, service: value }),
  );
  return make("form", { className: "bar", children: [time, experiment, service] });
}

export function select(id, label, options, chosen, onChange) {
  const list = make("select", {
    id,
    children: options.map(([value, text]) => make("option", { value, text, selected: value === chosen })),
  });
  list.addEventListener("change", () => onChange(list.value));
  return make("label", { children: [make("span", { text: label }), list] });
}

/** @type {[string, string, (value: any) => string, boolean | null][]} label, metric, format, whether more is worse */
const CARDS = [
  ["Traces", "count", number.format, null],
  ["Error rate", "error_rate", share, true],
  ["Duration p50", "duration_seconds_p50", duration, true],
  ["Duration p95", "duration_seconds_p95", duration, true],
  ["Input tokens", "input_tokens", compact, null],
  ["Output tokens", "output_tokens", compact, null],
  ["Cost", "cost_usd", money, null],
  ["Sessions", "sessions", number.format, null],
  ["Retries", "recovered_retries", number.format, null],
];

function cards(totals, into) {
  const items = CARDS.map(([label, metric, say, worse]) => {
    const { a, b } = totals[metric];
    const lower = metric === "cost_usd" && totals.unpriced_model_calls.b ? "≥ " : "";
    const value = b === null ? "–" : `${lower}${say(b)}`;
    const title =
      metric === "count"
        ? link(value, into({}))
        : metric === "error_rate" && b
          ? link(value, into({ status: "ERROR" }))
          : make("b", { text: value });
    title.classList.add("value");
    return make("li", {
      children: [make("span", { className: "quiet", text: label }), title, change(a, b, say, worse)],
    });
  });
  return make("ul", { className: "cards numbers", "aria-label": "Totals", children: items });
}

function change(a, b, say, worse) {
  if (a === null || b === null || a === undefined)
    return make("span", { className: "quiet small", text: " " });
  if (a === b) return make("span", { className: "quiet small", text: "no change" });
  const more = b > a;
  const part = a ? ` ${more ? "+" : "−"}${Math.abs(100 * (b / a - 1)).toFixed(0)} %` : "";
  const tone = worse === null ? "quiet" : more === worse ? "bad" : "good";
  return make("span", {
    className: `small ${tone}`,
    text: `${more ? "▲" : "▼"}${part} (was ${say(a)})`,
    title: "compared with the previous period of the same length",
  });
}

function charts(found, asked, go) {
  const metrics = [
    "count",
    "error_rate",
    "duration_seconds_p50",
    "duration_seconds_p95",
    "input_tokens",
    "output_tokens",
    "cost_usd",
  ];
  const { xs, values } = columns(found.axis, found.bucket_seconds, metrics, {
    count: 0,
    input_tokens: 0,
    output_tokens: 0,
    cost_usd: 0,
  });
  const onRange = (from, to) =>
    go({ ...asked, since: String(Math.floor(from)), until: String(Math.ceil(to)) });
  const line = (label, metric) => ({ label, values: values[metric] });
  return make("div", {
    className: "charts",
    children: [
      chart("Traces", xs, [line("traces", "count")], { bars: true, onRange }),
      chart("Error rate", xs, [line("errors", "error_rate")], { unit: "share", onRange }),
      chart("Duration", xs, [line("p50", "duration_seconds_p50"), line("p95", "duration_seconds_p95")], {
        unit: "seconds",
        onRange,
      }),
      chart("Tokens", xs, [line("input", "input_tokens"), line("output", "output_tokens")], { onRange }),
      chart("Cost", xs, [line("cost", "cost_usd")], { unit: "usd", bars: true, onRange }),
    ],
  });
}

function tops(found, into) {
  const name = (kind, filter) => ({
    title: kind,
    cell: ({ key }) => {
      const value = Object.values(key)[0];
      return value === null ? "not set" : link(value, into({ [filter]: value }));
    },
  });
  const value = (title, metric, say, wide) => ({ title, wide, cell: ({ values }) => say(values[metric]) });
  const p95 = value("Duration p95", "duration_seconds_p95", duration, true);
  const errors = value("Errors", "error_rate", share);
  const count = (title) => value(title, "count", number.format);
  const blocks = [
    [
      "Agents",
      found.agents,
      [name("Agent", "agent"), count("Traces"), errors, p95, value("Cost", "cost_usd", money, true)],
    ],
    [
      "Models",
      found.models,
      [name("Model", "model"), count("Calls"), errors, p95, value("Cost", "cost_usd", money)],
    ],
    [
      "Tools",
      found.tools,
      [
        name("Tool", "tool"),
        count("Calls"),
        errors,
        value("Retries", "recovered_retries", number.format, true),
        p95,
      ],
    ],
    [
      "Errors",
      found.errors,
      [
        name("Message", "error"),
        value("Traces", "traces", number.format),
        value("Spans", "count", number.format),
      ],
    ],
    [
      "Scores",
      found.scores,
      [
        name("Score", "score"),
        count("Count"),
        value("Mean", "score_mean", (mean) => (mean === null ? "" : scoreNumber(mean))),
        value("Passed", "pass_rate", (rate) => (rate === null ? "" : share(rate))),
      ],
    ],
  ];
  return make("div", {
    className: "tops",
    children: blocks.map(([title, groups, cells]) =>
      make("section", {
        children: [
          make("h2", { text: title }),
          groups.length
            ? table(title, cells, groups)
            : make("p", { className: "quiet", text: title === "Errors" ? "No errors." : "No data." }),
        ],
      }),
    ),
  });
}
