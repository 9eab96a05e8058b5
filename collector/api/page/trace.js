// @ts-check
// One trace: its figures, its conversation, its spans in time, and the span that is open.

import { Figures, Moment, Pill, Table } from "./components.js";
import {
  address,
  ask,
  at,
  byModality,
  duration,
  messageOf,
  money,
  moment,
  number,
  scoreText,
  sentence,
  tokens,
} from "./parts.js";
import { Conversation } from "./session.js";
import { SpanPanel, Tabs } from "./span.js";
import { html, useEffect, useState } from "./view.js";
import { Waterfall } from "./waterfall.js";

const SHOWN_SPANS = 30000;
const SHOWN_ROWS = 10;
const TABS = ["Spans", "Conversation"];

// what the service leaves out of a span where nobody said it
const NAMES = ["parent_span_id", "agent", "model", "tool", "cost_usd", "time_to_first_token_seconds"];
const MODALITIES = ["text", "image", "audio", "video"].flatMap((kind) => [`${kind}_input`, `${kind}_output`]);
const COUNTS = ["input", "output", "total", "cache_read", "cache_write", "reasoning", ...MODALITIES];
const NO_TOKENS = nulls(COUNTS);
const NOTHING = {
  ...nulls([...NAMES, "finish_reason", "error_type", "error_message"]),
  is_error: false,
  recovered_retry: false,
  tokens: NO_TOKENS,
  links: [],
};

function nulls(names) {
  return Object.fromEntries(names.map((name) => [name, null]));
}

/** The span with what the service left out, in place: copies of 10,000 take time. */
export function withEmpty(span) {
  if (span.tokens) Object.setPrototypeOf(span.tokens, NO_TOKENS);
  return Object.setPrototypeOf(span, NOTHING);
}

/** The trace's summary; throws an Error with a readable message. */
export async function loadTrace({ id }) {
  let answer;
  try {
    const bounds = { max_spans: SHOWN_SPANS, omit_empty: true };
    answer = await ask(address(`traces/${encodeURIComponent(id)}`, bounds));
  } catch {
    throw new Error("The service can't be reached.");
  }
  if (answer.status !== 200 || !answer.body)
    throw new Error(`${sentence(messageOf(answer))} ${nextStep(answer.status)}`.trim());
  answer.body.spans.forEach(withEmpty);
  return answer.body;
}

function nextStep(status) {
  if (status === 404)
    return "Check the id. An exporter may send spans a few seconds after the run, or only at shutdown.";
  return status === 503 ? "Try again in a moment." : "";
}

/** What is open, kept in the address without asking for the trace again. */
function remember(id, parameters) {
  history.replaceState(history.state, "", address(`#/trace/${encodeURIComponent(id)}`, parameters));
}

function Trace({ id, data: trace, parameters }) {
  const [tab, setTab] = useState(parameters.view === "conversation" ? TABS[1] : TABS[0]);
  const [selected, setSelected] = useState(/** @type {string | null} */ (parameters.span || null));
  useEffect(() => setSelected(parameters.span || null), [parameters.span]);
  useEffect(() => setTab(parameters.view === "conversation" ? TABS[1] : TABS[0]), [parameters.view]);
  const span = selected && trace.spans.find((each) => each.span_id === selected);
  const show = (view, spanId) => {
    setTab(view);
    setSelected(spanId);
    remember(id, { view: view === TABS[1] ? "conversation" : "", span: spanId });
  };
  const select = (spanId) => show(tab, spanId);
  const close = () => {
    select(null);
    at("view").querySelector('[role="tree"]')?.focus();
  };
  return html`<${Title} trace=${trace} />
    <${TraceFigures} trace=${trace} />
    ${remarks(trace).map((text) => html`<p class="notice">${text}</p>`)}
    <${OwnTime} trace=${trace} />
    <${Tabs} tab=${tab} tabs=${TABS} label="Spans or conversation" onTab=${(each) => show(each, selected)} />
    <div class=${span ? "split open" : "split"}>
      <div role="tabpanel" aria-label=${tab} class="main">
        ${
          tab === TABS[0]
            ? html`<${Waterfall}
                spans=${trace.spans}
                seconds=${trace.duration_seconds}
                selected=${selected}
                onSelect=${select}
              />`
            : html`<${Conversation}
                traceId=${trace.trace_id}
                version=${`${trace.span_count} ${trace.duration_seconds}`}
                onSpan=${select}
              />`
        }
        ${trace.spans_omitted > 0 && html`<p class="quiet">and ${number.format(trace.spans_omitted)} more spans</p>`}
      </div>
      ${span && html`<${SpanPanel} traceId=${trace.trace_id} span=${span} onClose=${close} />`}
    </div>
    <${Scores} trace=${trace} /><${Models} models=${trace.models} /><${Tools} tools=${trace.tools} />`;
}

function Title({ trace }) {
  const isKnown = typeof trace.mlflow_path === "string" && trace.mlflow_path.startsWith("/#/");
  return html`<div class="title">
    <h3>${trace.name}</h3>
    <${Pill} status=${trace.status} />
    <${CompareWith} traceId=${trace.trace_id} />
    ${isKnown && html`<a href=${`..${trace.mlflow_path}`}>Open in MLflow</a>`}
  </div>`;
}

function CompareWith({ traceId }) {
  const go = (event) => {
    event.preventDefault();
    const other = new FormData(event.currentTarget).get("other");
    location.hash = address("#/beside", { a: traceId, b: String(other).trim() });
  };
  return html`<details class="compare">
    <summary>Compare</summary>
    <form onSubmit=${go}>
      <input
        name="other"
        aria-label="The other trace's id"
        placeholder="the other trace's id"
        required
        autocomplete="off"
      />
      <button type="submit">Side by side</button>
    </form>
  </details>`;
}

/**
 * What a trace took and how it went: [label, value].
 * @returns {[string, any][]}
 */
export function figuresOf(trace) {
  const errors = number.format(trace.error_span_count);
  const retried = trace.recovered_retry_count;
  /** @type {[string, any][]} */
  const figures = [
    ["Duration", duration(trace.duration_seconds)],
    ["Spans", number.format(trace.span_count)],
    ["Model calls", number.format(trace.model_call_count)],
    ["Tool calls", number.format(trace.tool_call_count)],
    ["Errors", retried ? `${errors} (+${number.format(retried)} recovered)` : errors],
    ["Tokens in→out", tokens(trace.tokens)],
    ["Cached", trace.tokens.cache_read === null ? "" : number.format(trace.tokens.cache_read)],
    ["Reasoning", trace.tokens.reasoning === null ? "" : number.format(trace.tokens.reasoning)],
    .../** @type {[string, any][]} */ (byModality(trace.tokens)),
    [
      "Cost",
      trace.cost.usd === null ? "" : `${trace.cost.unpriced_model_calls ? "≥ " : ""}${money(trace.cost.usd)}`,
    ],
  ];
  return figures;
}

function TraceFigures({ trace }) {
  const session =
    trace.session && html`<a href=${`#/session/${encodeURIComponent(trace.session)}`}>${trace.session}</a>`;
  const parts = [
    ...figuresOf(trace),
    ["Started", html`<${Moment} ns=${trace.start_unix_ns} />`],
    ["Experiment", trace.experiment.name || trace.experiment.id],
    ["Service", [trace.service, trace.service_version].filter(Boolean).join(" ")],
    ["Agent", trace.agent],
    ["Session", session],
    ["User", trace.user],
  ];
  return html`<${Figures} items=${parts} />`;
}

function remarks(trace) {
  const said = [];
  if (trace.incomplete) said.push(`Possibly incomplete: ${trace.incomplete}`);
  if (trace.archived)
    said.push(`Archived: its content is in ${trace.archived.file} in ${trace.archived.archive}.`);
  if (!trace.complete)
    said.push("The root span has not arrived: the trace is still running, or its root was sent elsewhere.");
  if (trace.missing_parents) said.push(`Missing parent spans: ${number.format(trace.missing_parents)}.`);
  if (trace.cost.unpriced_model_calls)
    said.push(`Model calls without a known cost: ${number.format(trace.cost.unpriced_model_calls)}.`);
  if (trace.input_excluded_cache)
    said.push("The client counted input tokens without cached ones; they have been added.");
  return said;
}

/** Own time by kind of span, and how much of it is on the critical path. */
function OwnTime({ trace }) {
  const spent = (trace.own_time || []).filter((own) => own.self_seconds > 0);
  if (!spent.length) return null;
  const whole = trace.duration_seconds || 1;
  return html`<ul class="own-time" aria-label="Own time by kind">
    ${spent.map(
      (own) =>
        html`<li class=${own.kind}>
          <b>${own.kind}</b>
          <span class="track" aria-hidden="true"
            ><span
              class="bar"
              style=${{ width: `${Math.min(100, (100 * own.critical_seconds) / whole)}%` }}
            ></span
          ></span>
          <span class="quiet"
            >${duration(own.self_seconds)}, ${duration(own.critical_seconds)} on the critical path</span
          >
        </li>`,
    )}
  </ul>`;
}

/** What was said of the trace, of its session, or of one of its spans. */
function Scores({ trace }) {
  const names = new Map(trace.spans.map((span) => [span.span_id, span.name]));
  const of = (score) =>
    score.span_id ? names.get(score.span_id) || score.span_id : score.session ? "session" : "trace";
  const columns = [
    { title: "Score", words: true, cell: scoreText },
    { title: "Of", words: true, cell: of },
    { title: "Source", words: true, cell: (score) => score.source || "" },
    { title: "Kind", words: true, cell: (score) => score.judge },
    { title: "Time", words: true, cell: (score) => moment(score.time_unix_ns) },
  ];
  return html`<${Rows} label="Scores" columns=${columns} rows=${trace.scores || []} />`;
}

function Models({ models }) {
  const columns = [
    { title: "Model", cell: (use) => use.model || "unknown" },
    { title: "Calls", cell: (use) => number.format(use.calls) },
    { title: "Errors", cell: (use) => number.format(use.errors) },
    { title: "Time", cell: (use) => duration(use.duration_seconds) },
    { title: "Tokens", cell: (use) => tokens(use.tokens) },
    { title: "Cost", cell: (use) => money(use.cost_usd) },
  ];
  return html`<${Rows} label="Models" columns=${columns} rows=${models} />`;
}

function Tools({ tools }) {
  const columns = [
    { title: "Tool", cell: (use) => use.tool || "unknown" },
    { title: "Calls", cell: (use) => number.format(use.calls) },
    { title: "Errors", cell: (use) => number.format(use.errors) },
    { title: "Retries", cell: (use) => number.format(use.recovered_retries) },
    { title: "Time", cell: (use) => duration(use.duration_seconds) },
  ];
  return html`<${Rows} label="Tools" columns=${columns} rows=${tools} />`;
}

/**
 * A table of which the first rows are shown; nothing where there are none.
 * @param {{label: string, columns: any[], rows: any[]}} properties
 */
export function Rows({ label, columns, rows }) {
  const [all, setAll] = useState(false);
  if (!rows.length) return null;
  const shown = all ? rows : rows.slice(0, SHOWN_ROWS);
  return html`<${Table} label=${label} columns=${columns} rows=${shown} /> ${
      shown.length < rows.length &&
      html`<button type="button" class="plain small" onClick=${() => setAll(true)}>
        Show all ${number.format(rows.length)}
      </button>`
    }`;
}

export const trace = {
  title: "Trace",
  load: loadTrace,
  Show: Trace,
  follows: ({ id }) => ({ trace_id: id }),
};
