// @ts-check
// The health of the service: its parts, and the dead letters.

import { ask, at, bytes, duration, make, messageOf, moment, number } from "./parts.js";

const SHOWN_LETTERS = 100;

/** The label and the formatted value, in the unit that the end of the name gives. */
function quantity(name, value) {
  if (typeof value === "number" && name.endsWith("_bytes")) return [name.slice(0, -6), bytes(value)];
  if (typeof value === "number" && name.endsWith("_seconds")) return [name.slice(0, -8), duration(value)];
  if (typeof value === "number" && name.endsWith("_unix_ns")) return [name.slice(0, -8), moment(value)];
  if (typeof value === "number") return [name, number.format(value)];
  return [name, typeof value === "object" ? JSON.stringify(value) : String(value)];
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
  if (!parts.length)
    at("parts").append(make("li", { className: "quiet", text: "The service reports no parts." }));
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
      make("span", { className: ok ? "good" : "bad", text: ok ? "✓ OK" : "✗ Problem" }),
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
  if (fingerprint === letters.shown) return; // nothing new: keep the focus where it is
  letters.shown = fingerprint;
  const focused = document.activeElement && document.activeElement.id;
  const shown = list.slice(0, SHOWN_LETTERS);
  letters.ids = shown.map((letter) => letter.id);
  at("letters-count").textContent = total ? `(${number.format(total)})` : "";
  at("retry-all").hidden = shown.length < 2;
  at("letters").replaceChildren(...shown.map(letterItem));
  if (!shown.length) {
    at("letters").append(make("li", { className: "quiet", text: "No dead letters: nothing was refused." }));
  } else if (total > shown.length) {
    at("letters").append(
      make("li", {
        className: "quiet",
        text: `and ${number.format(total - shown.length)} more; list them with sidespan dead-letters list`,
      }),
    );
  }
  if (focused && at(focused)) at(focused).focus();
}

function letterItem(letter) {
  const retry = make("button", {
    type: "button",
    className: "plain",
    text: "Send again",
    id: `retry-${letter.id}`,
  });
  retry.setAttribute("aria-label", `Send dead letter ${letter.id} again`);
  retry.addEventListener("click", () => retryLetters([letter.id]));
  const noun = letter.signal === "logs" ? "log record" : "span";
  const spans = `${number.format(letter.span_count)} ${noun}${letter.span_count === 1 ? "" : "s"}`;
  const route = Object.entries(letter.route || {}).map(
    ([key, value]) => `${key.replaceAll("_", " ")} ${value}`,
  );
  const head = make("div", {
    className: "head",
    children: [
      make("b", { text: letter.reason }),
      make("span", {
        className: "quiet",
        text: [spans, ...route, moment(letter.parked_unix_ns)].join(" · "),
      }),
      retry,
    ],
  });
  const traces = make("p", {
    children: (letter.trace_ids || []).slice(0, 5).map((id) => traceButton(id, letter.id)),
  });
  return make("li", { children: [head, make("p", { text: letter.message }), traces] });
}

function traceButton(id, letterId) {
  const button = make("button", {
    type: "button",
    className: "link",
    text: id,
    id: `trace-${letterId}-${id}`,
  });
  button.addEventListener("click", () => {
    location.hash = `#/trace/${encodeURIComponent(id)}`;
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
      ? `${ids.length === 1 ? "It is" : "They are"} back in the queue. Spans that MLflow refuses again return here.`
      : `Not sent: ${messageOf(answer)}`;
  } catch {
    message.className = "bad";
    message.textContent = "Not sent: the service can't be reached.";
  }
  for (const button of buttons) button.disabled = false;
  letters.shown = "";
  await refreshHealth();
}

export async function refreshHealth() {
  await Promise.all([
    ask("ready").then(
      ({ body }) => (body && body.parts ? showHealth(body) : showUnreachable()),
      showUnreachable,
    ),
    ask("dead-letters").then(
      ({ body }) => body && Array.isArray(body.dead_letters) && showLetters(body),
      () => {}, // the pill already shows it
    ),
  ]);
}

at("retry-all").addEventListener("click", () => retryLetters(letters.ids));
