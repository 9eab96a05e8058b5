// The page at /-/. Everything that is shown came over HTTP and is set as text, never as HTML.
// Addresses are relative to /-/, so that the page also works behind a path prefix.

const REFRESH_MILLISECONDS = 3000;
const TIMEOUT_MILLISECONDS = 10000;
const SHOWN_SPANS = 1000;
const SHOWN_LETTERS = 100;
const DEEPEST_INDENT = 12;

const at = (id) => document.getElementById(id);

/** An element with text and children; `attributes` are set as they are. */
function make(tag, { text, className, children = [], ...attributes } = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = String(text);
  if (className) element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter(Boolean));
  return element;
}

// ---- asking

/** {status, body} of a JSON answer, whatever its status; body is null where it is no JSON. */
async function ask(path, options = {}) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS), ...options });
  const body = await answer.json().catch(() => null);
  return { status: answer.status, body };
}

function messageOf({ status, body }) {
  const error = body && body.error;
  return (error && error.message) || (body && body.message) || `the service answered with status ${status}`;
}

// ---- numbers for people

const number = new Intl.NumberFormat();

function duration(seconds) {
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 0.1) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(2)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return minutes < 2880 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 1440)} days`;
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit += 1) count /= 1024;
  return `${unit ? count.toFixed(1) : number.format(count)} ${units[unit]}`;
}

function money(usd) {
  if (usd === 0 || usd >= 1) return `$${usd.toFixed(2)}`;
  return usd >= 0.0001 ? `$${usd.toFixed(4)}` : `$${Number(usd.toPrecision(2))}`;
}

function tokens(counts) {
  const say = (count) => (count === null ? "?" : number.format(count));
  if (counts.input === null && counts.output === null) return counts.total === null ? "" : say(counts.total);
  return `${say(counts.input)}→${say(counts.output)}`;
}

/** A value of a part of the service, by what its name says of its unit. */
function quantity(name, value) {
  if (typeof value === "number" && name.endsWith("_bytes")) return [name.slice(0, -6), bytes(value)];
  if (typeof value === "number" && name.endsWith("_seconds")) return [name.slice(0, -8), duration(value)];
  if (typeof value === "number" && name.endsWith("_unix_ns")) return [name.slice(0, -8), moment(value)];
  if (typeof value === "number") return [name, number.format(value)];
  return [name, typeof value === "object" ? JSON.stringify(value) : String(value)];
}

function moment(unixNs) {
  return unixNs ? new Date(unixNs / 1e6).toLocaleString() : "never";
}

// ---- the service

function showHealth(health) {
  const state = at("state");
  state.textContent = health.ready ? "Ready" : "Not ready";
  state.className = `pill ${health.ready ? "good" : "bad"}`;
  at("version").textContent = health.version || "";
  document.title = health.ready ? "Sidespan" : "Sidespan: not ready";
  const parts = Object.entries(health.parts || {});
  at("parts").replaceChildren(...parts.map(([name, part]) => partCard(name, part)));
  if (!parts.length) at("parts").append(make("li", { className: "quiet", text: "The service named no parts." }));
}

function partCard(name, { ok, reason, ...values }) {
  const list = make("dl");
  for (const [key, value] of Object.entries(values)) {
    if (value === null) continue;
    const [label, said] = quantity(key, value);
    list.append(make("dt", { text: label.replaceAll("_", " ") }), make("dd", { text: said }));
  }
  const title = make("h3", {
    children: [
      make("span", { text: titled(name) }),
      make("span", { className: ok ? "good" : "bad", text: ok ? "✓ fine" : "✗ trouble" }),
    ],
  });
  const why = reason ? make("p", { className: ok ? "quiet" : "bad", text: reason }) : null;
  return make("li", { children: [title, why, list.childElementCount ? list : null] });
}

function titled(name) {
  const words = name.replaceAll("_", " ").replace("mlflow", "MLflow");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function showUnreachable() {
  const state = at("state");
  state.textContent = "Service can't be reached";
  state.className = "pill bad";
  document.title = "Sidespan: not reachable";
}

// ---- dead letters

const letters = { shown: "", ids: [] };

function showLetters({ dead_letters: list, total }) {
  const fingerprint = JSON.stringify([list, total]);
  if (fingerprint === letters.shown) return; // nothing new: leave the reader's focus alone
  letters.shown = fingerprint;
  const focused = document.activeElement && document.activeElement.id;
  const shown = list.slice(0, SHOWN_LETTERS);
  letters.ids = shown.map((letter) => letter.id);
  at("letters-count").textContent = total ? `(${number.format(total)})` : "";
  at("retry-all").hidden = shown.length < 2;
  at("letters").replaceChildren(...shown.map(letterItem));
  if (!shown.length) {
    at("letters").append(make("li", { className: "quiet", text: "None: nothing was refused. Nothing to do." }));
  } else if (total > shown.length) {
    at("letters").append(make("li", { className: "quiet", text: `and ${number.format(total - shown.length)} more: sidespan dead-letters list` }));
  }
  if (focused && at(focused)) at(focused).focus();
}

function letterItem(letter) {
  const retry = make("button", { type: "button", className: "plain", text: "Send again", id: `retry-${letter.id}` });
  retry.setAttribute("aria-label", `Send dead letter ${letter.id} again`);
  retry.addEventListener("click", () => retryLetters([letter.id]));
  const spans = `${number.format(letter.span_count)} span${letter.span_count === 1 ? "" : "s"}`;
  const route = Object.entries(letter.route || {}).map(([key, value]) => `${key.replaceAll("_", " ")} ${value}`);
  const head = make("div", {
    className: "head",
    children: [
      make("b", { text: letter.reason }),
      make("span", { className: "quiet", text: [spans, ...route, moment(letter.parked_unix_ns)].join(" · ") }),
      retry,
    ],
  });
  const traces = make("p", { children: (letter.trace_ids || []).slice(0, 5).map((id) => traceButton(id, letter.id)) });
  return make("li", { children: [head, make("p", { text: letter.message }), traces] });
}

function traceButton(id, letterId) {
  const button = make("button", { type: "button", className: "link", text: id, id: `trace-${letterId}-${id}` });
  button.addEventListener("click", () => {
    location.hash = `trace=${encodeURIComponent(id)}`;
    at("trace-title").scrollIntoView();
  });
  return button;
}

async function retryLetters(ids) {
  const message = at("letters-message");
  const buttons = [at("retry-all"), ...at("letters").querySelectorAll("button.plain")];
  for (const button of buttons) button.disabled = true;
  message.className = "";
  message.textContent = "Sending…";
  try {
    const answer = await ask("dead-letters/retry", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ids }),
    });
    const good = answer.status < 300;
    message.className = good ? "good" : "bad";
    message.textContent = good
      ? `${ids.length === 1 ? "It is" : "They are"} back in the queue. What MLflow refuses again comes back here.`
      : `Not sent: ${messageOf(answer)}`;
  } catch {
    message.className = "bad";
    message.textContent = "Not sent: the service can't be reached.";
  }
  for (const button of buttons) button.disabled = false;
  letters.shown = "";
  await refresh();
}

// ---- one trace

const lookup = { id: "", running: 0 };

async function showTrace(id) {
  lookup.id = id;
  lookup.running += 1;
  const mine = lookup.running;
  const message = at("trace-message");
  if (!id) {
    at("trace").replaceChildren(...welcome());
    message.textContent = "";
    return;
  }
  at("trace-id").value = id;
  message.className = "quiet";
  message.textContent = "Looking…";
  let answer;
  try {
    answer = await ask(`traces/${encodeURIComponent(id)}?max_spans=${SHOWN_SPANS}`);
  } catch {
    answer = { status: 0, body: { message: "the service can't be reached" } };
  }
  if (mine !== lookup.running) return; // a later look-up has taken over
  if (answer.status !== 200 || !answer.body) {
    at("trace").replaceChildren();
    message.className = "bad";
    message.textContent = `${sentence(messageOf(answer))} ${nextStep(answer.status)}`.trim();
    return;
  }
  message.textContent = "";
  at("trace").replaceChildren(...traceParts(answer.body));
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

function nextStep(status) {
  if (status === 404) return "Check the id; an agent's exporter sends a few seconds after the run, or when it is shut down.";
  return status === 503 ? "Try again in a moment." : "";
}

function welcome() {
  return [
    make("p", { className: "quiet", text: "Paste the id of a trace, from your agent's log or from MLflow. No traces yet? Let any OpenTelemetry SDK send here:" }),
    make("p", { children: [make("code", { text: `OTEL_EXPORTER_OTLP_ENDPOINT=${location.origin}` })] }),
  ];
}

function traceParts(trace) {
  return [
    traceTitle(trace),
    figures(trace),
    ...remarks(trace).map((text) => make("p", { className: "notice", text })),
    waterfall(trace),
    usage("Model", ["Calls", "Errors", "Time", "Tokens", "Cost"], trace.models.map((use) => [
      use.model || "unknown", number.format(use.calls), number.format(use.errors), duration(use.duration_seconds),
      tokens(use.tokens), use.cost_usd === null ? "" : money(use.cost_usd),
    ])),
    usage("Tool", ["Calls", "Errors", "Retries", "Time"], trace.tools.map((use) => [
      use.tool || "unknown", number.format(use.calls), number.format(use.errors),
      number.format(use.recovered_retries), duration(use.duration_seconds),
    ])),
  ].filter(Boolean);
}

function traceTitle(trace) {
  const tone = { OK: "good", ERROR: "bad" }[trace.status] || "warn";
  const link = typeof trace.mlflow_path === "string" && trace.mlflow_path.startsWith("/#/")
    ? make("a", { text: "Open in MLflow", href: `..${trace.mlflow_path}` })
    : null;
  return make("div", {
    className: "title",
    children: [make("h3", { text: trace.name }), make("span", { className: `pill ${tone}`, text: trace.status }), link],
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
    ["Cost", trace.cost.usd === null ? "" : `${trace.cost.unpriced_model_calls ? "≥ " : ""}${money(trace.cost.usd)}`],
    ["Started", moment(trace.start_unix_ns)],
    ["Experiment", place],
    ["Service", [trace.service, trace.service_version].filter(Boolean).join(" ")],
    ["Agent", trace.agent],
    ["Session", trace.session],
    ["User", trace.user],
  ];
  const shown = parts.filter(([, said]) => said);
  return make("ul", {
    className: "figures",
    children: shown.map(([label, said]) => make("li", { children: [make("b", { text: said }), make("span", { text: label })] })),
  });
}

function remarks(trace) {
  const said = [];
  if (trace.incomplete) said.push(`Maybe incomplete: ${trace.incomplete}`);
  if (!trace.complete) said.push("The root span has not arrived: the trace is still running, or its root went elsewhere.");
  if (trace.missing_parents) said.push(`Missing parent spans: ${number.format(trace.missing_parents)}.`);
  if (trace.cost.unpriced_model_calls) said.push(`Model calls without a known cost: ${number.format(trace.cost.unpriced_model_calls)}.`);
  if (trace.input_excluded_cache) said.push("Input tokens were given without the cached ones, which have been added.");
  return said;
}

function waterfall(trace) {
  const whole = trace.duration_seconds || 1;
  const list = make("ol", { className: "waterfall", "aria-label": "Spans", children: trace.spans.map((span) => spanItem(span, whole)) });
  list.style.listStyle = "none";
  list.style.padding = "0";
  if (trace.spans_omitted) {
    list.append(make("li", { className: "quiet", text: `and ${number.format(trace.spans_omitted)} spans more` }));
  }
  return list;
}

function spanItem(span, whole) {
  const bar = make("div", { className: "bar" });
  bar.style.left = `${Math.min(100, (100 * span.start_offset_seconds) / whole)}%`;
  bar.style.width = `${Math.min(100, (100 * span.duration_seconds) / whole)}%`;
  const failed = span.is_error && !span.recovered_retry;
  const spent = [tokens(span.tokens), span.cost_usd === null ? "" : money(span.cost_usd)].filter(Boolean).join("  ");
  const why = [span.error_type, span.error_message].filter(Boolean).join(": ") || "no reason given";
  const item = make("li", {
    className: `${span.kind}${failed ? " failed" : ""}`,
    children: [
      make("div", {
        className: "name",
        title: span.name,
        children: [make("span", { text: span.name }), make("span", { className: "kind", text: span.kind })],
      }),
      make("div", { className: "track", "aria-hidden": "true", children: [bar] }),
      make("div", { className: "took", text: duration(span.duration_seconds) }),
      make("div", { className: "spent", text: spent }),
      span.is_error
        ? make("div", { className: `why ${failed ? "bad" : "warn"}`, text: `${failed ? "Error" : "Recovered retry"}: ${why}` })
        : null,
    ],
  });
  item.style.setProperty("--depth", String(Math.min(span.depth, DEEPEST_INDENT)));
  return item;
}

function usage(title, columns, rows) {
  if (!rows.length) return null;
  const head = make("tr", { children: [title, ...columns].map((text) => make("th", { text, scope: "col" })) });
  const body = rows.map((cells) => make("tr", { children: cells.map((text) => make("td", { text })) }));
  const table = make("table", { children: [make("thead", { children: [head] }), make("tbody", { children: body })] });
  // it scrolls sideways where it is too narrow, which the keyboard must be able to do
  return make("div", { className: "table", tabindex: "0", role: "region", "aria-label": `${title}s`, children: [table] });
}

// ---- life

async function refresh() {
  await Promise.all([
    ask("ready").then(({ body }) => (body && body.parts ? showHealth(body) : showUnreachable()), showUnreachable),
    ask("dead-letters").then(
      ({ body }) => body && Array.isArray(body.dead_letters) && showLetters(body),
      () => {}, // the pill says it already
    ),
  ]);
}

async function keepFresh() {
  if (!document.hidden) await refresh();
  setTimeout(keepFresh, REFRESH_MILLISECONDS);
}

function traceInAddress() {
  return new URLSearchParams(location.hash.slice(1)).get("trace") || "";
}

at("lookup").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = at("trace-id").value.trim();
  if (traceInAddress() === id) showTrace(id);
  else location.hash = `trace=${encodeURIComponent(id)}`;
});
at("retry-all").addEventListener("click", () => retryLetters(letters.ids));
addEventListener("hashchange", () => location.hash === "#main" || showTrace(traceInAddress()));
document.addEventListener("visibilitychange", () => document.hidden || refresh());

showTrace(traceInAddress());
keepFresh();
