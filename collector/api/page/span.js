// @ts-check
// What one span says: facts, messages or input and output, attributes, events, links, errors, all of it as JSON.
// It is asked when the span is opened, and kept no longer than it is.

import { Messages } from "./chat.js";
import {
  TIMEOUT_MILLISECONDS,
  address,
  byModality,
  duration,
  messageOf,
  money,
  number,
  sentence,
  tokens,
} from "./parts.js";
import { Copy, Exact, Long, Tree, Value, isCut, read } from "./values.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./view.js";

const FIRST = { max_characters: 20000, max_media_characters: 1500000 };
const WHOLE = { max_characters: 1000000, max_media_characters: 8000000 };
// of a long history the last messages are what the call is about
const SHOWN_MESSAGES = 6;
const TABS = ["Content", "Attributes", "Events", "Raw"];
const ARGUMENTS_KINDS = ["TOOL", "RETRIEVER", "EMBEDDING", "RERANKER"];

/**
 * @param {{traceId: string, span: any, onClose: () => void}} properties
 */
export function SpanPanel({ traceId, span, onClose }) {
  const [tab, setTab] = useState(TABS[0]);
  const [wholeId, setWholeId] = useState("");
  const isWhole = wholeId === span.span_id;
  const [found, setFound] = useState(/** @type {any} */ (null));
  const panel = useRef(/** @type {any} */ (null));
  useEffect(() => {
    let isGone = false;
    setFound((old) => (old && old.detail && old.detail.span_id === span.span_id ? old : null));
    readSpan(traceId, span.span_id, isWhole ? WHOLE : FIRST).then((read) => isGone || setFound(read));
    return () => {
      isGone = true;
    };
  }, [traceId, span.span_id, span.duration_seconds, isWhole]);
  useLayoutEffect(() => {
    // beneath the tree, on a narrow screen, it would open out of sight
    if (panel.current.getBoundingClientRect().top > innerHeight - 80)
      panel.current.scrollIntoView({ block: "start" });
  }, [span.span_id]);
  const onKeyDown = (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    onClose();
  };
  const onAll = isWhole ? undefined : () => setWholeId(span.span_id);
  return html`<section class="panel" ref=${panel} aria-label="Span" onKeyDown=${onKeyDown}>
    <header>
      <h3>${span.name} <span class=${`kind ${span.kind}`}>${span.kind}</span></h3>
      <button type="button" class="plain small" onClick=${onClose} aria-label="Close the span">✕</button>
    </header>
    <${Facts} span=${span} />
    <${Tabs} tab=${tab} onTab=${setTab} />
    <div role="tabpanel" aria-label=${tab} class="tabpanel" tabindex="0">
      <${Body} tab=${tab} found=${found} span=${span} onAll=${onAll} />
    </div>
  </section>`;
}

async function readSpan(traceId, spanId, bounds) {
  const path = `traces/${encodeURIComponent(traceId)}/spans/${encodeURIComponent(spanId)}`;
  try {
    const answer = await fetch(address(path, bounds), { signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS) });
    const body = read(await answer.text()) ?? null; // times in nanoseconds are longer than JavaScript's numbers
    return answer.ok && body
      ? { detail: body }
      : { error: sentence(messageOf({ status: answer.status, body })) };
  } catch {
    return { error: "The service can't be reached." };
  }
}

/** Tabs by the arrow keys too, as the ARIA Authoring Practices describe them. */
export function Tabs({ tab, onTab, tabs = TABS, label = "What to show" }) {
  const onKeyDown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    onTab(next);
    event.currentTarget.querySelector(`[data-tab="${next}"]`).focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} onKeyDown=${onKeyDown}>
    ${tabs.map(
      (each) =>
        html`<button
          type="button"
          role="tab"
          data-tab=${each}
          aria-selected=${String(each === tab)}
          tabindex=${each === tab ? 0 : -1}
          onClick=${() => onTab(each)}
        >
          ${each}
        </button>`,
    )}
  </div>`;
}

function Body({ tab, found, span, onAll }) {
  if (!found) return html`<p class="quiet">Loading…</p>`;
  if (!found.detail) return html`<p class="notice">${found.error}</p>`;
  const { detail } = found;
  if (tab === "Attributes") return html`<${Attributes} detail=${detail} onAll=${onAll} />`;
  if (tab === "Events") return html`<${Events} detail=${detail} onAll=${onAll} />`;
  if (tab === "Raw") return html`<${Raw} detail=${detail} onAll=${onAll} />`;
  return html`<${Content} detail=${detail} span=${span} onAll=${onAll} />`;
}

function Content({ detail, span, onAll }) {
  const isChat = !ARGUMENTS_KINDS.includes(span.kind) && (detail.given.length || detail.returned.length);
  return html`${detail.exceptions.map((each) => html`<${Exception} exception=${each} onAll=${onAll} />`)}
  ${!detail.exceptions.length && span.is_error && html`<${Failed} span=${span} />`}
  ${
    isChat
      ? html`<${Given} messages=${detail.given} traceId=${detail.trace_id} onAll=${onAll} />
          <h4>Output</h4>
          ${
            detail.returned.length
              ? html`<${Messages} messages=${detail.returned} traceId=${detail.trace_id} onAll=${onAll} />`
              : html`<${Value} value=${detail.output} label="Output" onAll=${onAll} />`
          }`
      : html`<h4>Input <${Copied} value=${detail.input} /></h4>
          <${Value} value=${detail.input} label="Input" onAll=${onAll} />
          <h4>Output <${Copied} value=${detail.output} /></h4>
          <${Value} value=${detail.output} label="Output" onAll=${onAll} />`
  }`;
}

const Copied = ({ value }) => (value ? html`<${Copy} text=${value.text} />` : null);

function Given({ messages, traceId, onAll }) {
  const [all, setAll] = useState(false);
  const hidden = all ? 0 : Math.max(0, messages.length - SHOWN_MESSAGES);
  return html`<h4>Input</h4>
    ${
      hidden > 0 &&
      html`<button type="button" class="plain small" onClick=${() => setAll(true)}>
        Show ${number.format(hidden)} earlier messages
      </button>`
    }
    <${Messages} messages=${messages.slice(hidden)} traceId=${traceId} onAll=${onAll} />`;
}

function Failed({ span }) {
  return html`<div class="failure">
    <b>${span.error_type || "Error"}</b>
    <p>${span.error_message || "no reason given"}</p>
  </div>`;
}

function Exception({ exception, onAll }) {
  const { type, message, stacktrace } = exception;
  return html`<div class="failure">
    <b>${type || "Exception"}</b>
    ${message && html`<${Long} text=${message.text} characters=${message.characters} onAll=${onAll} />`}
    ${
      stacktrace &&
      html`<details>
        <summary>Stack trace</summary>
        <pre class="stack">${isCut(stacktrace) ? "…\n" : ""}${stacktrace.text}</pre>
        <${Copy} text=${stacktrace.text} />
      </details>`
    }
  </div>`;
}

function Attributes({ detail, onAll }) {
  return html`<${Named} values=${detail.attributes} onAll=${onAll} />
    ${detail.attributes_omitted > 0 && html`<p class="quiet">and ${number.format(detail.attributes_omitted)} more</p>`}
    ${
      Object.keys(detail.resource).length > 0 &&
      html`<h4>Resource</h4>
        <${Named} values=${detail.resource} onAll=${onAll} />`
    }
    ${
      detail.scope.name &&
      html`<h4>Scope</h4>
        <p>${detail.scope.name} ${detail.scope.version}</p>`
    }`;
}

function Named({ values, onAll }) {
  const names = Object.keys(values).sort();
  if (!names.length) return html`<p class="quiet">none</p>`;
  return html`<dl class="named">
    ${names.map(
      (name) =>
        html`<dt>${name}</dt>
          <dd><${Value} value=${values[name]} label=${name} onAll=${onAll} /></dd>`,
    )}
  </dl>`;
}

function Events({ detail, onAll }) {
  const { events, links } = detail;
  return html`${!events.length && !links.length && html`<p class="quiet">no events and no links</p>`}
  ${events.map(
    (event) =>
      html`<details class="event">
        <summary>
          <b>${event.name}</b>
          <span class="quiet">after ${duration((event.time_unix_ns - detail.start_unix_ns) / 1e9)}</span>
        </summary>
        <${Named} values=${event.attributes} onAll=${onAll} />
      </details>`,
  )}
  ${detail.events_omitted > 0 && html`<p class="quiet">and ${number.format(detail.events_omitted)} more events</p>`}
  ${links.length > 0 && html`<h4>Links</h4>`}
  ${links.map(
    (link) =>
      html`<p>
        <a class="mono" href=${`#/trace/${link.trace_id}?span=${link.span_id}`}>${link.trace_id}</a>
      </p>`,
  )}`;
}

function Raw({ detail, onAll }) {
  const { given: _, returned: __, ...rest } = detail;
  const plain = plainOf(rest);
  return html`<p>
      <${Copy} text=${() => JSON.stringify(plain, null, 2)} label="Copy JSON" />
      ${onAll && html` <button type="button" class="plain small" onClick=${onAll}>Load texts whole</button>`}
    </p>
    <${Tree} value=${plain} label="The span as JSON" />`;
}

/** The span as a reader expects it: values in the place of {text, characters}. */
export function plainOf(value) {
  if (Array.isArray(value)) return value.map(plainOf);
  if (value === null || typeof value !== "object" || value instanceof Exact) return value;
  // an attribute may be called "characters" too
  if (typeof value.characters === "number" && typeof value.text === "string")
    return value.is_json ? (read(value.text) ?? value.text) : value.text;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plainOf(each)]));
}

function Facts({ span }) {
  const parts = [
    ["Span id", html`<span class="mono">${span.span_id}</span>`],
    ["Agent", span.agent],
    ["Model", span.model],
    ["Tool", span.tool],
    ["Started after", duration(span.start_offset_seconds)],
    ["Took", duration(span.duration_seconds)],
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
  ];
  const shown = parts.filter(([, said]) => said !== null && said !== undefined && said !== "");
  return html`<dl class="facts">
    ${shown.map(
      ([label, said]) =>
        html`<div>
          <dt>${label}</dt>
          <dd>${said}</dd>
        </div>`,
    )}
  </dl>`;
}
