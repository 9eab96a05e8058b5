// @ts-check
// One trace: its figures, and its spans as a waterfall with the critical path.

import {
  address,
  ask,
  byModality,
  duration,
  link,
  make,
  messageOf,
  money,
  moment,
  number,
  scoreText,
  sentence,
  table,
  tokens,
} from "./parts.js";

const SHOWN_SPANS = 1000;
const DEEPEST_INDENT = 12;

/** The parts of the view; throws an Error with a readable message. */
export async function trace(id) {
  let answer;
  try {
    answer = await ask(address(`traces/${encodeURIComponent(id)}`, { max_spans: SHOWN_SPANS }));
  } catch {
    throw new Error("The service can't be reached.");
  }
  if (answer.status !== 200 || !answer.body)
    throw new Error(`${sentence(messageOf(answer))} ${nextStep(answer.status)}`.trim());
  return traceParts(answer.body);
}

function nextStep(status) {
  if (status === 404)
    return "Check the id. An exporter may send spans a few seconds after the run, or only at shutdown.";
  return status === 503 ? "Try again in a moment." : "";
}

export function traceParts(trace) {
  return [
    traceTitle(trace),
    figures(trace),
    ...remarks(trace).map((text) => make("p", { className: "notice", text })),
    ownTime(trace),
    waterfall(trace),
    scores(trace),
    trace.models.length
      ? table(
          "Models",
          [
            { title: "Model", cell: (use) => use.model || "unknown" },
            { title: "Calls", cell: (use) => number.format(use.calls) },
            { title: "Errors", cell: (use) => number.format(use.errors) },
            { title: "Time", cell: (use) => duration(use.duration_seconds) },
            { title: "Tokens", cell: (use) => tokens(use.tokens) },
            { title: "Cost", cell: (use) => money(use.cost_usd) },
          ],
          trace.models,
        )
      : null,
    trace.tools.length
      ? table(
          "Tools",
          [
            { title: "Tool", cell: (use) => use.tool || "unknown" },
            { title: "Calls", cell: (use) => number.format(use.calls) },
            { title: "Errors", cell: (use) => number.format(use.errors) },
            { title: "Retries", cell: (use) => number.format(use.recovered_retries) },
            { title: "Time", cell: (use) => duration(use.duration_seconds) },
          ],
          trace.tools,
        )
      : null,
  ].filter(Boolean);
}

/* what was said of the trace, of its session, or of one of its spans */
function scores(trace) {
  if (!(trace.scores || []).length) return null;
  const names = new Map(trace.spans.map((span) => [span.span_id, span.name]));
  const of = (score) =>
    score.span_id ? names.get(score.span_id) || score.span_id : score.session ? "session" : "trace";
  return table(
    "Scores",
    [
      { title: "Score", words: true, cell: scoreText },
      { title: "Of", words: true, cell: of },
      { title: "Source", words: true, cell: (score) => score.source || "" },
      { title: "Kind", words: true, wide: true, cell: (score) => score.judge },
      { title: "Time", words: true, wide: true, cell: (score) => moment(score.time_unix_ns) },
    ],
    trace.scores,
  );
}

function traceTitle(trace) {
  const tone = { OK: "good", ERROR: "bad" }[trace.status] || "warn";
  const link =
    typeof trace.mlflow_path === "string" && trace.mlflow_path.startsWith("/#/")
      ? make("a", { text: "Open in MLflow", href: `..${trace.mlflow_path}` })
      : null;
  return make("div", {
    className: "title",
    children: [
      make("h3", { text: trace.name }),
      make("span", { className: `pill ${tone}`, text: trace.status }),
      link,
    ],
  });
}

function figures(trace) {
  const place = trace.experiment.name || trace.experiment.id;
  const errors = number.format(trace.error_span_count);
  const retried = trace.recovered_retry_count;
  const parts = [
    ["Duration", duration(trace.duration_seconds)],
    ["Spans", number.format(trace.span_count)],
    ["Model calls", number.format(trace.model_call_count)],
    ["Tool calls", number.format(trace.tool_call_count)],
    ["Errors", retried ? `${errors} (+${number.format(retried)} recovered)` : errors],
    ["Tokens in→out", tokens(trace.tokens)],
    ["Cached", trace.tokens.cache_read === null ? "" : number.format(trace.tokens.cache_read)],
    ["Reasoning", trace.tokens.reasoning === null ? "" : number.format(trace.tokens.reasoning)],
    ...byModality(trace.tokens),
    [
      "Cost",
      trace.cost.usd === null ? "" : `${trace.cost.unpriced_model_calls ? "≥ " : ""}${money(trace.cost.usd)}`,
    ],
    ["Started", moment(trace.start_unix_ns)],
    ["Experiment", place],
    ["Service", [trace.service, trace.service_version].filter(Boolean).join(" ")],
    ["Agent", trace.agent],
    ["Session", trace.session ? link(trace.session, `#/session/${encodeURIComponent(trace.session)}`) : ""],
    ["User", trace.user],
  ];
  const shown = parts.filter(([, said]) => said);
  return make("ul", {
    className: "figures",
    children: shown.map(([label, said]) =>
      make("li", {
        children: [
          make("b", said instanceof Node ? { children: [said] } : { text: said }),
          make("span", { text: label }),
        ],
      }),
    ),
  });
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
function ownTime(trace) {
  const spent = (trace.own_time || []).filter((own) => own.self_seconds > 0);
  if (!spent.length) return null;
  const whole = trace.duration_seconds || 1;
  return make("ul", {
    className: "own-time",
    "aria-label": "Own time by kind",
    children: spent.map((own) => {
      const bar = make("span", { className: "bar" });
      bar.style.width = `${Math.min(100, (100 * own.critical_seconds) / whole)}%`;
      const said = `${duration(own.self_seconds)}, ${duration(own.critical_seconds)} on the critical path`;
      return make("li", {
        className: own.kind,
        children: [
          make("b", { text: own.kind }),
          make("span", { className: "track", "aria-hidden": "true", children: [bar] }),
          make("span", { className: "quiet", text: said }),
        ],
      });
    }),
  });
}

function waterfall(trace) {
  const whole = trace.duration_seconds || 1;
  const list = make("ol", {
    className: "waterfall",
    "aria-label": "Spans",
    children: trace.spans.map((span) => spanItem(span, whole)),
  });
  list.style.listStyle = "none";
  list.style.padding = "0";
  if (trace.spans_omitted) {
    list.append(
      make("li", { className: "quiet", text: `and ${number.format(trace.spans_omitted)} more spans` }),
    );
  }
  return list;
}

/* the spans that it names as related, each with the page of its trace; "" where there is none */
function linksTo(span) {
  if (!span.links.length) return "";
  return make("span", {
    children: span.links.flatMap((other, place) => [
      place ? ", " : "",
      make("a", { href: `#/trace/${other.trace_id}`, text: other.trace_id, title: `span ${other.span_id}` }),
    ]),
  });
}

function spanDetails(span) {
  const parts = [
    ["Span id", span.span_id],
    ["Agent", span.agent],
    ["Model", span.model],
    ["Tool", span.tool],
    ["Started after", duration(span.start_offset_seconds)],
    ["Own time", duration(span.self_seconds)],
    ["On the critical path", duration(span.critical_seconds)],
    [
      "First token after",
      span.time_to_first_token_seconds === null ? "" : duration(span.time_to_first_token_seconds),
    ],
    ["Tokens in→out", tokens(span.tokens)],
    ["Cached tokens", span.tokens.cache_read],
    ["Reasoning tokens", span.tokens.reasoning],
    ...byModality(span.tokens),
    ["Cost", money(span.cost_usd)],
    ["Cost source", span.cost_source === "none" ? "" : span.cost_source],
    ["Finish reason", span.finish_reason],
    ["Links to", linksTo(span)],
  ];
  return make("dl", {
    children: parts
      .filter(([, said]) => said !== null && said !== "")
      .flatMap(([label, said]) => [
        make("dt", { text: label }),
        said instanceof Node ? make("dd", { children: [said] }) : make("dd", { text: said }),
      ]),
  });
}

function spanItem(span, whole) {
  const bar = make("div", { className: "bar" });
  bar.style.left = `${Math.min(100, (100 * span.start_offset_seconds) / whole)}%`;
  bar.style.width = `${Math.min(100, (100 * span.duration_seconds) / whole)}%`;
  const failed = span.is_error && !span.recovered_retry;
  const spent = [tokens(span.tokens), span.cost_usd === null ? "" : money(span.cost_usd)]
    .filter(Boolean)
    .join("  ");
  const why = [span.error_type, span.error_message].filter(Boolean).join(": ") || "no reason given";
  const critical = (span.critical_seconds || 0) > 0;
  const more = make("button", {
    type: "button",
    className: "more",
    id: `span-${span.span_id}`,
    "aria-expanded": "false",
    text: span.name,
  });
  const details = make("div", { className: "details", hidden: true });
  more.addEventListener("click", () => {
    if (details.hidden) details.replaceChildren(spanDetails(span));
    details.hidden = !details.hidden;
    more.setAttribute("aria-expanded", String(!details.hidden));
  });
  const item = make("li", {
    className: `${span.kind}${failed ? " failed" : ""}${critical ? " critical" : ""}`,
    children: [
      make("div", {
        className: "name",
        title: span.name,
        children: [more, make("span", { className: "kind", text: span.kind })],
      }),
      make("div", { className: "track", "aria-hidden": "true", children: [bar] }),
      make("div", { className: "took", text: duration(span.duration_seconds) }),
      make("div", { className: "spent", text: spent }),
      span.is_error
        ? make("div", {
            className: `why ${failed ? "bad" : "warn"}`,
            text: `${failed ? "Error" : "Recovered retry"}: ${why}`,
          })
        : null,
      details,
    ],
  });
  item.style.setProperty("--depth", String(Math.min(span.depth, DEEPEST_INDENT)));
  return item;
}
