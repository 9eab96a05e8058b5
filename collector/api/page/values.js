// @ts-check
// Values of a trace: JSON as a tree that opens, long texts folded, and copying.

import { number } from "./parts.js";
import { html, useState } from "./view.js";

const SHOWN_CHARACTERS = 4000;
const SHOWN_MEMBERS = 100;
const OPEN_MEMBERS = 12;
const MAX_TREE_CHARACTERS = 2000000;
// deeper ones open by a click: a sender may nest thousands
const OPEN_LEVELS = 4;
// not every browser tells a reviver how a number was written; no sender can guess the name
const MARK = `exact ${Math.random()}`;
const LONG_NUMBER = /\d{16}/;
const WHOLE_NUMBER = /^-?\d{16,}$/;
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const COPIED_MILLISECONDS = 1500;

/** The value that a text holds as JSON, or undefined; whole numbers that JavaScript would round stay as they are. */
export function read(text) {
  try {
    const value = JSON.parse(text); // first: TOKENS takes long on what is no JSON
    return LONG_NUMBER.test(text) ? JSON.parse(text.replace(TOKENS, exactly), unmarked) : value;
  } catch {
    return undefined;
  }
}

const unmarked = (_, value) => (value && value[MARK] ? new Exact(value[MARK]) : value);
const exactly = (token) => (WHOLE_NUMBER.test(token) ? `{"${MARK}":"${token}"}` : token);

/** The object or list that a text holds as JSON, or undefined. */
export const parsed = (text) =>
  /^\s*[[{]/.test(text) && text.length <= MAX_TREE_CHARACTERS ? read(text) : undefined;

export class Exact {
  constructor(source) {
    this.source = source;
  }

  valueOf() {
    return Number(this.source);
  }

  toJSON() {
    const { rawJSON } = /** @type {any} */ (JSON);
    return rawJSON ? rawJSON(this.source) : this.source;
  }
}

/** Whether more than `text` is there. The service counts code points, JavaScript halves of some. */
export function isCut({ text, characters }) {
  if (text.length < characters) return true;
  const pairs = text.match(/[\ud800-\udbff][\udc00-\udfff]/g) || [];
  return characters > text.length - pairs.length;
}

/**
 * A text of the API, {text, characters}: as a tree where it is JSON.
 * @param {{value: {text: string, characters: number} | null, label: string, onAll?: () => void}} properties
 */
export function Value({ value, label, onAll }) {
  if (!value) return html`<span class="quiet">none</span>`;
  const tree = isCut(value) ? undefined : parsed(value.text);
  if (tree !== undefined) return html`<${Tree} value=${tree} label=${label} />`;
  return html`<${Long} text=${value.text} characters=${value.characters} onAll=${onAll} />`;
}

/**
 * A text; of a long one its beginning. `Show` draws the part that is shown, `onAll` fetches what is missing.
 * @param {{text: string, characters?: number, onAll?: () => void, Show?: any}} properties
 */
export function Long({ text, characters = text.length, onAll, Show = Plain }) {
  const [whole, setWhole] = useState(false);
  const shown = whole ? text : text.slice(0, SHOWN_CHARACTERS);
  const isMore = isCut({ text, characters });
  const more = () => {
    setWhole(true);
    if (isMore && onAll) onAll();
  };
  const folded = shown.length < text.length || (isMore && onAll);
  return html`<div class=${folded ? "long folded" : "long"}>
    <${Show} text=${shown} />
    ${
      folded &&
      html`<button type="button" class="plain small" onClick=${more}>
        Show all ${number.format(characters)} characters
      </button>`
    }
    ${isMore && !folded && html`<p class="quiet small">Cut: it has ${number.format(characters)} characters.</p>`}
  </div>`;
}

const Plain = ({ text }) => html`<pre class="text">${text}</pre>`;

/** @param {{value: any, label: string}} properties */
export function Tree({ value, label }) {
  return html`<div class="tree" role="group" aria-label=${label}>
    <${Node} value=${value} levels=${OPEN_LEVELS} />
  </div>`;
}

const isHolder = (value) => value !== null && typeof value === "object" && !(value instanceof Exact);

/** `levels`: so many are open from the start. */
function Node({ name = null, value, levels }) {
  const key = name === null ? null : html`<span class="key">${name}</span>`;
  if (!isHolder(value)) return html`<div class="leaf">${key}${key && ": "}<${Leaf} value=${value} /></div>`;
  const members = Array.isArray(value) ? value.map((each, at) => [at, each]) : Object.entries(value);
  if (!members.length)
    return html`<div class="leaf">${key}${key && ": "}${Array.isArray(value) ? "[]" : "{}"}</div>`;
  return html`<${Holder} name=${key} members=${members} isList=${Array.isArray(value)} levels=${levels} />`;
}

function Holder({ name, members, isList, levels }) {
  const [open, setOpen] = useState(levels > 0);
  const [count, setCount] = useState(SHOWN_MEMBERS);
  const size = `${number.format(members.length)} ${isList ? "item" : "field"}${members.length === 1 ? "" : "s"}`;
  const inner = open ? members.slice(0, count) : [];
  return html`<details open=${open} onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>${name || (isList ? "list" : "object")} <span class="quiet">${size}</span></summary>
    ${inner.map(
      ([key, each]) =>
        html`<${Node}
          key=${key}
          name=${key}
          value=${each}
          levels=${members.length <= OPEN_MEMBERS ? levels - 1 : 0}
        />`,
    )}
    ${
      open &&
      members.length > count &&
      html`<button type="button" class="plain small" onClick=${() => setCount(count + SHOWN_MEMBERS)}>
        Show more (${number.format(members.length - count)})
      </button>`
    }
  </details>`;
}

function Leaf({ value }) {
  if (typeof value === "string")
    return value.length > 300 || value.includes("\n")
      ? html`<${Long} text=${value} />`
      : html`<span class="string">${JSON.stringify(value)}</span>`;
  return html`<span class="atom">${value instanceof Exact ? value.source : String(value)}</span>`;
}

/**
 * Copies a text; `text` may be a function, called when it is wanted.
 * @param {{text: string | (() => string), label?: string}} properties
 */
export function Copy({ text, label = "Copy" }) {
  const [done, setDone] = useState("");
  const copy = async () => {
    const said = typeof text === "function" ? text() : text;
    setDone((await copied(said)) ? "Copied" : "Can't copy");
    setTimeout(() => setDone(""), COPIED_MILLISECONDS);
  };
  return html`<button type="button" class="plain small copy" onClick=${copy} aria-live="polite">
    ${done || label}
  </button>`;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedByHand(text); // without TLS a browser has no clipboard but this
  }
}

function copiedByHand(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "sr";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
