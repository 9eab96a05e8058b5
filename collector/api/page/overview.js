// @ts-check
// The overview: totals and their changes, charts over time, what drives the changes, the alerts that fire, and
// where time and money go. Every number leads to its rows.

import { Alerting, firingAlerts } from "./alerting.js";
import { Chart, columns } from "./charts.js";
import { Change, Empty, HowToSend, Select } from "./components.js";
import { Drivers } from "./drivers.js";
import { useFacets } from "./facets.js";
import { OVERVIEW_FILTERS, overviewAsked, overviewPath } from "./first.js";
import { address, compact, duration, get, money, number, share, without } from "./parts.js";
import { before } from "./periods.js";
import { Tops } from "./tops.js";
import { html } from "./view.js";

export const RANGES = [
  ["-1h", "Last hour"],
  ["-24h", "Last day"],
  ["-7d", "Last week"],
  ["-30d", "Last month"],
  ["0", "All time"],
];
async function load({ parameters }) {
  const asked = overviewAsked(parameters);
  const [found, firing] = await Promise.all([get(overviewPath(asked)), firingAlerts()]);
  return { asked, found, firing };
}

function Show({ data: { asked, found, firing }, parameters, go }) {
  const into = (more) => `#/traces${address("", { ...asked, ...more })}`;
  const about = JSON.stringify(asked);
  const bar = html`<${Bar} ...${{ parameters, asked, go }} />`;
  if (!found.totals.count.b) return html`${bar}<${Nothing} />`;
  return html`${bar}
    <${Totals} totals=${found.totals} into=${into} earlier=${earlierThan(asked)} />
    <${Alerting} firing=${firing} />
    <${Charts} ...${{ found, asked, go }} />
    <${Drivers} key=${`changes ${about}`} asked=${asked} into=${into} />
    <${Tops} ...${{ found, asked, into }} />`;
}

export const overview = { title: "Overview", load, Show, live: true };

function Nothing() {
  const facets = useFacets(0);
  if (!facets) return html`<p class="quiet">Loading…</p>`;
  return !facets.experiment || facets.experiment.length
    ? html`<${Empty} title="No traces match.">
        <p class="quiet">Choose a longer time range or remove filters.</p>
      <//>`
    : html`<${Empty} title="No traces yet.">
        <${HowToSend} />
        <p class="quiet">
          Traces appear here within two seconds. To import those that MLflow already holds, run sidespan index
          backfill --experiment NAME.
        </p>
      <//>`;
}

function Bar({ parameters, asked, go }) {
  const facets = useFacets(asked);
  const known = (facet) => facets?.[facet] || [];
  const named = (facet) => [["", "All"], ...known(facet).map(({ value }) => [value, value])];
  const picker = (id, label, name, facet) =>
    html`<${Select}
      ...${{ id, label, options: named(facet), chosen: parameters[name] || "" }}
      onChange=${(value) => go((now) => ({ ...now, [name]: value }))}
    />`;
  const others = OVERVIEW_FILTERS.filter(
    (name) => parameters[name] && !["experiment_name", "service", "agent"].includes(name),
  );
  return html`<form class="bar" onSubmit=${(event) => event.preventDefault()}>
    <${Select}
      ...${{ id: "range", label: "Time range", options: RANGES, chosen: asked.since, other: "Custom range" }}
      onChange=${(since) => go((now) => ({ ...now, since, until: "" }))}
    />
    ${picker("experiment", "Experiment", "experiment_name", "experiment")}
    ${picker("service", "Service", "service", "service")} ${picker("agent", "Agent", "agent", "agent")}
    ${others.map(
      (name) =>
        html`<button
          type="button"
          class="chip"
          title="Remove this filter"
          onClick=${() => go((now) => ({ ...now, [name]: "" }))}
        >
          ${name.replaceAll("_", " ")}: ${String(parameters[name])} <span aria-hidden="true">✕</span>
        </button>`,
    )}
    <a
      class="button"
      href="#/compare${address("", { ...without(asked, "since", "until"), ...before(asked.since, asked.until) })}"
      >Compare with before</a
    >
  </form>`;
}

/** @type {any[]} label, metric, format, whether more is worse, filters and order of its rows */
const TILES = [
  ["Traces", "count", number.format, null, {}],
  ["Error rate", "error_rate", share, true, { status: "ERROR" }],
  ["Duration p50", "duration_seconds_p50", duration, true, { sort: "-duration" }],
  ["Duration p95", "duration_seconds_p95", duration, true, { sort: "-duration" }],
  ["Tokens", "total_tokens", compact, null, { sort: "-tokens" }],
  ["Cost", "cost_usd", money, null, { sort: "-cost" }],
  ["Sessions", "sessions", number.format, null, null],
  ["Retries", "recovered_retries", number.format, null, { sort: "-errors" }],
];

/** The time before, of which the numbers are that the totals are compared with; null where there is none. */
function earlierThan({ since, until }) {
  const sides = before(since, until);
  return sides && { since: sides["a.since"], until: sides["a.until"] };
}

function Totals({ totals, into, earlier }) {
  return html`<ul class="cards numbers" aria-label="Totals">
    ${TILES.map(([label, metric, say, worse, rows]) => {
      const { a, b } = totals[metric];
      const lower = metric === "cost_usd" && totals.unpriced_model_calls.b ? "≥ " : "";
      const said = b === null ? "–" : `${lower}${say(b)}`;
      const rowsOf = (more) =>
        rows ? into({ ...rows, ...more }) : into(more).replace("#/traces", "#/sessions");
      return html`<li key=${metric}>
        <span class="quiet">${label}</span>
        <a class="value" href=${rowsOf({})}>${said}</a>
        <${Change} before=${a} now=${b} worse=${worse} say=${say} href=${earlier ? rowsOf(earlier) : ""} />
      </li>`;
    })}
  </ul>`;
}

const ZEROS = { count: 0, input_tokens: 0, output_tokens: 0, cost_usd: 0, model_calls: 0, tool_calls: 0 };

function Charts({ found, asked, go }) {
  const metrics = [
    ...[
      "count",
      "error_rate",
      "duration_seconds_p50",
      "duration_seconds_p95",
      "input_tokens",
      "output_tokens",
    ],
    ...["cost_usd", "model_calls", "tool_calls"],
  ];
  const { xs, values } = columns(found.axis, found.bucket_seconds, metrics, ZEROS);
  const onRange = (from, to) =>
    go({ ...asked, since: String(Math.floor(from)), until: String(Math.ceil(to)) });
  const line = (label, metric) => ({ label, values: values[metric] });
  const draw = (title, lines, options = {}) =>
    html`<${Chart} key=${title} title=${title} xs=${xs} lines=${lines} options=${{ ...options, onRange }} />`;
  const durations = [line("p50", "duration_seconds_p50"), line("p95", "duration_seconds_p95")];
  return html`<div class="charts">
    ${draw("Traces", [line("traces", "count")], { bars: true })}
    ${draw("Error rate", [line("errors", "error_rate")], { unit: "share" })}
    ${draw("Duration", durations, { unit: "seconds" })}
    ${draw("Cost", [line("cost", "cost_usd")], { unit: "usd", bars: true })}
    ${draw("Tokens", [line("input", "input_tokens"), line("output", "output_tokens")])}
    ${draw("Calls", [line("model", "model_calls"), line("tool", "tool_calls")])}
  </div>`;
}
