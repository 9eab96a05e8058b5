// @ts-check
// What rows are filtered by; it is in the address.

import { Select } from "./components.js";
import { useFacets } from "./facets.js";
import { without } from "./parts.js";
import { html } from "./view.js";

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
/** @type {any[]} name, label, facet */
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
  ["experiment_id", "Experiment id"],
  ["version", "Version"],
  ["environment", "Environment"],
  ["provider", "Provider"],
  ["prompt", "Prompt"],
];
// links from other views set these; a filter that holds is always shown
const ONLY_WHEN_SET = ["experiment_id", "version", "environment", "provider", "prompt"];
const TRACES_ONLY = ["tag", "score", "min_duration_seconds", "min_cost_usd"];
const ALWAYS = 4;

/** The text filters of traces, or of spans, which have fewer. */
export const filtersOf = (what) =>
  TEXTS.filter(([name]) => what === "traces" || !TRACES_ONLY.includes(name)).map(([name]) => name);

/** Of TEXTS those with these names; some only while they hold. */
export const shownFields = (asked, names) =>
  TEXTS.filter(([name]) => names.includes(name) && (asked[name] || !ONLY_WHEN_SET.includes(name)));

/**
 * @param {{asked: any, go: (parameters: any) => void, names?: string[]}} properties
 */
export function Filters({ asked, go, names = filtersOf("traces") }) {
  const facets = useFacets(asked);
  const change = (values) => go((now) => ({ ...asked, ...without(now, "cursor"), ...values }));
  const shown = shownFields(asked, names);
  const isMore = shown.slice(ALWAYS).some(([name]) => asked[name]);
  const field = ([name, label, facet]) =>
    html`<${Field}
      key=${name}
      ...${{ name, label, known: facet && facets?.[facet], value: asked[name] || "", change }}
    />`;
  return html`<form
    class="filters"
    role="search"
    aria-label="Filters"
    onSubmit=${(event) => event.preventDefault()}
  >
    <div class="fields">
      <${Select}
        ...${{ id: "since", label: "Time range", options: TIMES, chosen: asked.since, other: "Custom range" }}
        onChange=${(since) => change({ since, until: "" })}
      />
      <${Select}
        ...${{ id: "status", label: "Status", options: STATUSES, chosen: asked.status || "" }}
        onChange=${(status) => change({ status })}
      />
      ${shown.slice(0, ALWAYS).map(field)}
    </div>
    <details class="filtering" open=${isMore || !matchMedia("(max-width: 48rem)").matches}>
      <summary>More filters</summary>
      <div class="fields">
        ${shown.slice(ALWAYS).map(field)}
        <button type="button" class="plain" onClick=${() => go({})}>Clear</button>
      </div>
    </details>
  </form>`;
}

function Field({ name, label, known, value, change }) {
  return html`<label class=${value ? "set" : ""}>
    <span>${label}</span>
    <input
      id="filter-${name}"
      name=${name}
      value=${value}
      list=${known ? `known-${name}` : undefined}
      placeholder=${name === "score" ? "helpful<0.5" : "any"}
      autocomplete="off"
      spellcheck="false"
      onChange=${(event) => change({ [name]: event.target.value.trim() })}
    />
    ${
      known
        ? html`<datalist id="known-${name}">
            ${known.map((each) => html`<option key=${each.value} value=${each.value} />`)}
          </datalist>`
        : null
    }
  </label>`;
}
