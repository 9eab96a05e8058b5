// @ts-check
// Messages of a conversation or of one span. What they say is text, whoever wrote it.

import { Elsewhere, Markdown, isImageData } from "./markdown.js";
import { bytes, duration } from "./parts.js";
import { Copy, Long, Value } from "./values.js";
import { html } from "./view.js";

// a sender may call a role anything, such as "constructor"
const SPEAKERS = new Map(
  Object.entries({ user: "User", assistant: "Agent", system: "System", tool: "Tool" }),
);
const INLINE_IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
const INLINE_SOUNDS = /^audio\/[a-z0-9.+-]+$/;

/**
 * @param {{messages: any[], onAll?: () => void, onSpan?: (spanId: string) => void, traceId?: string}} properties
 */
export function Messages({ messages, onAll, onSpan, traceId }) {
  return html`<ol class="chat">
    ${messages.map(
      (message, at) =>
        html`<${Message} key=${at} message=${message} onAll=${onAll} onSpan=${onSpan} traceId=${traceId} />`,
    )}
  </ol>`;
}

function Message({ message, onAll, onSpan, traceId }) {
  const speaker = SPEAKERS.get(message.role) || message.role;
  const isFolded = message.role === "system";
  const said = html`${message.parts.map(
    (part, at) => html`<${Part} key=${at} part=${part} onAll=${onAll} onSpan=${onSpan} traceId=${traceId} />`,
  )}
  ${message.error && html`<${Failure} error=${message.error} />`}`;
  const only = message.parts.length > 0 && message.parts.every((part) => part.type === "tool_call");
  return html`<li
    class=${`message ${SPEAKERS.has(message.role) ? message.role : "other"}${only ? " calls" : ""}`}
  >
    ${
      isFolded
        ? html`<details>
            <summary class="speaker">${speaker}</summary>
            ${said}
          </details>`
        : html`<p class="speaker">
              ${speaker}${message.name && html` <span class="quiet">${message.name}</span>`}
            </p>
            ${said}`
    }
  </li>`;
}

export function Failure({ error }) {
  return html`<div class="failure" role="note">
    <b>${error.type || "Error"}</b>
    ${error.message && html`<${Long} text=${error.message.text} characters=${error.message.characters} />`}
  </div>`;
}

function Part({ part, onAll, onSpan, traceId }) {
  switch (part.type) {
    case "text":
      return html`<${Words} part=${part} onAll=${onAll} />`;
    case "reasoning":
      return html`<details class="reasoning">
        <summary>Reasoning</summary>
        <${Words} part=${part} onAll=${onAll} />
      </details>`;
    case "tool_call":
      return html`<${ToolCall} call=${part} onAll=${onAll} onSpan=${onSpan} traceId=${traceId} />`;
    case "tool_result":
      return html`<details class="call">
        <summary>Result of <b>${part.name || "a tool"}</b></summary>
        <${Value} value=${part.result} label="Result" onAll=${onAll} />
      </details>`;
    case "image":
    case "audio":
    case "video":
    case "file":
      return html`<${Media} part=${part} onAll=${onAll} />`;
    default:
      return html`<${Value} value=${part} label="Value" onAll=${onAll} />`;
  }
}

function Words({ part, onAll }) {
  return html`<${Long} text=${part.text} characters=${part.characters} onAll=${onAll} Show=${Markdown} />`;
}

function ToolCall({ call, onAll, onSpan, traceId }) {
  const took = call.duration_seconds === null ? "" : duration(call.duration_seconds);
  const brief = call.arguments ? call.arguments.text.replace(/\s+/g, " ").slice(0, 160) : "";
  return html`<details class=${`call${call.is_error ? " failed" : ""}`}>
    <summary>
      <b>${call.name || "tool"}</b>
      <span class="brief">${brief}</span> ${call.is_error && html`<span class="bad">failed</span>`}
      <span class="quiet took">${took}</span>
    </summary>
    <h4>Arguments</h4>
    <${Value} value=${call.arguments} label="Arguments" onAll=${onAll} />
    ${
      call.error &&
      html`<h4>Error</h4>
        <${Failure} error=${call.error} />`
    }
    <h4>Result</h4>
    <${Value} value=${call.result} label="Result" onAll=${onAll} />
    <p class="actions">
      ${call.result && html`<${Copy} text=${call.result.text} label="Copy result" />`}
      ${call.span_id && html`<${ToSpan} spanId=${call.span_id} onSpan=${onSpan} traceId=${traceId} />`}
    </p>
  </details>`;
}

function ToSpan({ spanId, onSpan, traceId }) {
  if (onSpan)
    return html`<button type="button" class="plain small" onClick=${() => onSpan(spanId)}>Open span</button>`;
  return html`<a class="small" href=${`#/trace/${traceId}?span=${spanId}`}>Open span</a>`;
}

function Media({ part, onAll }) {
  const said = [
    part.name,
    part.mime_type,
    part.characters ? bytes(Math.floor((part.characters * 3) / 4)) : "",
  ];
  const caption = said.filter(Boolean).join(" · ");
  const isShown = part.data && part.type === "image" && INLINE_IMAGES.includes(part.mime_type || "image/png");
  const address = isShown ? `data:${part.mime_type || "image/png"};base64,${part.data}` : "";
  if (isShown && isImageData(address))
    return html`<figure>
      <img src=${address} alt=${part.name || "image"} />
      <figcaption>${caption}</figcaption>
    </figure>`;
  if (part.data && part.type === "audio" && INLINE_SOUNDS.test(part.mime_type || ""))
    return html`<figure>
      <audio controls src=${`data:${part.mime_type};base64,${part.data}`}></audio>
      <figcaption>${caption}</figcaption>
    </figure>`;
  // another host learns that somebody reads this, so it is asked only by a click
  if (part.url)
    return html`<p class="file">
      <${Elsewhere} href=${part.url}>${part.type} at ${shortened(part.url)} ↗<//>
    </p>`;
  const isLeftOut = part.characters > 0 && !part.data && onAll;
  const load = html` <button type="button" class="plain small" onClick=${onAll}>Load</button>`;
  return html`<p class="file">${part.type} <span class="quiet">${caption}</span>${isLeftOut && load}</p>`;
}

const shortened = (text) => (text.length > 60 ? `${text.slice(0, 57)}…` : text);
