// @ts-check
// The health of the service: its parts, and the dead letters. The header shows it in every view.

import { ask, at, bytes, duration, messageOf, moment, number } from "./parts.js";
import { html, useEffect, useState } from "./view.js";

const SHOWN_LETTERS = 100;
const SHOWN_TRACES = 5;
const AWAY = "Service can't be reached";

/** @type {{health: any, letters: any, heard: Set<() => void>}} */
const known = { health: null, letters: null, heard: new Set() };

/** The label and the formatted value, in the unit that the end of the name gives. */
function quantity(name, value) {
  if (typeof value === "number" && name.endsWith("_bytes")) return [name.slice(0, -6), bytes(value)];
  if (typeof value === "number" && name.endsWith("_seconds")) return [name.slice(0, -8), duration(value)];
  if (typeof value === "number" && name.endsWith("_unix_ns")) return [name.slice(0, -8), moment(value)];
  if (typeof value === "number") return [name, number.format(value)];
  return [name, typeof value === "object" ? JSON.stringify(value) : String(value)];
}

// ---- what is known of it

function showState(text, isGood) {
  at("state").textContent = text;
  at("state").className = `pill ${isGood ? "good" : "bad"}`;
  const title = document.title.replace(/^✕ /, "");
  document.title = isGood ? title : `✕ ${title}`;
}

function hear({ body }) {
  if (!body || !body.parts) {
    showState(AWAY, false);
    return;
  }
  known.health = body;
  showState(body.ready ? "Ready" : "Not ready", body.ready);
  at("version").textContent = body.version || "";
}

/** Ask how the service is; the dead letters too while somebody looks at them. */
export async function refreshHealth() {
  const state = ask("ready").then(hear, () => showState(AWAY, false));
  await Promise.all(known.heard.size ? [state, refreshLetters()] : [state]);
  for (const tell of known.heard) tell();
}

async function refreshLetters() {
  const { body } = await ask("dead-letters").catch(() => ({ body: null })); // the pill already shows it
  if (body && Array.isArray(body.dead_letters)) known.letters = body;
}

// ---- the view

function Show() {
  const [, setTurn] = useState(0);
  useEffect(() => {
    const tell = () => setTurn((turn) => turn + 1);
    known.heard.add(tell);
    return () => known.heard.delete(tell);
  }, []);
  return html`<section aria-labelledby="health-title">
      <h2 id="health-title">Service</h2>
      <${Parts} parts=${known.health && Object.entries(known.health.parts)} />
    </section>
    <${Letters} letters=${known.letters} />`;
}

/** Both are there before anything is shown, so that nothing moves. */
async function load() {
  const state = known.health ? null : ask("ready").then(hear, () => showState(AWAY, false));
  await Promise.all([state, refreshLetters()]);
}

export const health = { title: "Service", load, Show };

function Parts({ parts }) {
  const none = !parts ? "Loading…" : parts.length ? "" : "The service reports no parts.";
  return html`<ul id="parts" class="cards">
    ${
      none
        ? html`<li class="quiet">${none}</li>`
        : parts.map(([name, part]) => html`<${Part} key=${name} name=${name} part=${part} />`)
    }
  </ul>`;
}

function Part({ name, part: { ok, reason, ...values } }) {
  const isSaid = (value) => value !== null && (typeof value !== "object" || Object.keys(value).length > 0);
  const said = Object.entries(values).filter(([, value]) => isSaid(value));
  return html`<li>
    <h3>
      <span>${titled(name)}</span>
      <span class=${ok ? "good" : "bad"}>${ok ? "✓ OK" : "✗ Problem"}</span>
    </h3>
    ${reason ? html`<p class=${ok ? "quiet" : "bad"}>${reason}</p>` : null}
    ${
      said.length
        ? html`<dl>
            ${said.map(([key, value]) => {
              const [label, text] = quantity(key, value);
              return html`<dt>${label.replaceAll("_", " ")}</dt>
                <dd>${text}</dd>`;
            })}
          </dl>`
        : null
    }
  </li>`;
}

function titled(name) {
  const words = name.replaceAll("_", " ").replace("mlflow", "MLflow");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

// ---- dead letters

/** Send letters again: {tone, text} says what became of it. */
async function retried(ids) {
  try {
    const answer = await ask("dead-letters/retry", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ids }),
    });
    const what = ids.length === 1 ? "It is" : "They are";
    if (answer.status >= 300) return { tone: "bad", text: `Not sent: ${messageOf(answer)}` };
    return { tone: "good", text: `${what} back in the queue. Spans that MLflow refuses again return here.` };
  } catch {
    return { tone: "bad", text: "Not sent: the service can't be reached." };
  }
}

function Letters({ letters }) {
  const [message, setMessage] = useState({ tone: "", text: "" });
  const [isSending, setSending] = useState(false);
  const { dead_letters: all = [], total = 0 } = letters || {};
  const shown = all.slice(0, SHOWN_LETTERS);
  const retry = async (ids) => {
    setSending(true);
    setMessage({ tone: "", text: "Sending…" });
    setMessage(await retried(ids));
    setSending(false);
    await refreshHealth();
  };
  const everything = () => retry(shown.map(({ id }) => id));
  const rest = total - shown.length;
  const none = letters ? "No dead letters: nothing was refused." : "Loading…";
  const more = `and ${number.format(rest)} more; list them with sidespan dead-letters list`;
  return html`<section aria-labelledby="letters-title">
    <h2 id="letters-title">
      Dead letters <span id="letters-count" class="quiet">${total ? `(${number.format(total)})` : ""}</span>
    </h2>
    <p class="quiet">
      Spans that MLflow refused permanently. They stay on disk until you send them again or drop them.
    </p>
    <p id="letters-message" role="status" class=${message.tone}>${message.text}</p>
    <p hidden=${shown.length < 2}>
      <button id="retry-all" type="button" disabled=${isSending} onClick=${everything}>Send all again</button>
    </p>
    <ul id="letters" class="letters">
      ${shown.map((each) => html`<${Letter} key=${each.id} letter=${each} isSending=${isSending} retry=${retry} />`)}
      ${shown.length ? null : html`<li class="quiet">${none}</li>`}
      ${shown.length && rest > 0 ? html`<li class="quiet">${more}</li>` : null}
    </ul>
  </section>`;
}

function Letter({ letter, isSending, retry }) {
  const noun = letter.signal === "logs" ? "log record" : "span";
  const spans = `${number.format(letter.span_count)} ${noun}${letter.span_count === 1 ? "" : "s"}`;
  const route = Object.entries(letter.route || {}).map(
    ([key, value]) => `${key.replaceAll("_", " ")} ${value}`,
  );
  const open = (id) => {
    location.hash = `#/trace/${encodeURIComponent(id)}`;
  };
  return html`<li>
    <div class="head">
      <b>${letter.reason}</b>
      <span class="quiet">${[spans, ...route, moment(letter.parked_unix_ns)].join(" · ")}</span>
      <button
        type="button"
        class="plain"
        id="retry-${letter.id}"
        aria-label="Send dead letter ${letter.id} again"
        disabled=${isSending}
        onClick=${() => retry([letter.id])}
      >
        Send again
      </button>
    </div>
    <p>${letter.message}</p>
    <p>
      ${(letter.trace_ids || [])
        .slice(0, SHOWN_TRACES)
        .map(
          (id) =>
            html`<button
              key=${id}
              type="button"
              class="link"
              id="trace-${letter.id}-${id}"
              onClick=${() => open(id)}
            >
              ${id}
            </button>`,
        )}
    </p>
  </li>`;
}
