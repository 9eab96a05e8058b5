// @ts-check
// Markdown as elements. No HTML is ever set: marked only splits the text into tokens, HTML in it stays text,
// links lead to http, https or mailto, and images of other hosts are links, so that nothing loads by itself.

import { lexer } from "./vendor/marked.js";
import { html } from "./view.js";

// longer texts are shown as they are: the time for names_like_this_one grows with the square of the length
const MAX_CHARACTERS = 20000;
const MAX_DEPTH = 16;
const SCHEMES = ["http:", "https:", "mailto:"];
const ENTITIES = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&nbsp;": "\u00a0" };
const IMAGE_DATA = /^data:image\/(png|jpeg|gif|webp|avif);base64,[A-Za-z0-9+/=\s]+$/;

/** The address if a link may lead there, else null. Relative ones would lead into this page. */
export function safeAddress(text) {
  try {
    const address = new URL(String(text));
    return SCHEMES.includes(address.protocol) ? address.href : null;
  } catch {
    return null;
  }
}

/** A link to another place; only its text where that place is no web page or mail address. */
export function Elsewhere({ href, title = undefined, children }) {
  const address = safeAddress(href);
  if (!address) return html`<span class="nolink" title=${String(href)}>${children}</span>`;
  return html`<a
    href=${address}
    title=${title ? `${title} (${address})` : address}
    target="_blank"
    rel="noopener noreferrer nofollow"
    >${children}</a
  >`;
}

/** An image that the trace itself holds; the browser must know its type, and SVG may hold scripts. */
export const isImageData = (address) => IMAGE_DATA.test(address);

/** @param {{text: string}} properties */
export function Markdown({ text }) {
  return html`<div class="markdown">${blocksOf(text)}</div>`;
}

function blocksOf(text) {
  if (text.length > MAX_CHARACTERS) return html`<pre>${text}</pre>`;
  try {
    return lexer(text, { gfm: true, breaks: true }).map((token) => block(token, 0));
  } catch {
    return html`<pre>${text}</pre>`; // nested deeper than the library follows
  }
}

function block(token, depth) {
  if (depth > MAX_DEPTH) return token.raw;
  const inside = (tokens) => (tokens || []).map((each) => block(each, depth + 1));
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "code":
      return html`<pre><code>${token.text}</code></pre>`;
    case "heading":
      // the page's own headings are above: h1 of a text is no heading of the page
      return html`<p class=${`heading heading-${token.depth}`}>${inlines(token.tokens, depth + 1)}</p>`;
    case "blockquote":
      return html`<blockquote>${inside(token.tokens)}</blockquote>`;
    case "hr":
      return html`<hr />`;
    case "list":
      return list(token, depth);
    case "table":
      return table(token, depth);
    case "paragraph":
      return html`<p>${inlines(token.tokens, depth + 1)}</p>`;
    case "text":
      return token.tokens ? html`<p>${inlines(token.tokens, depth + 1)}</p>` : plain(token.text);
    case "html":
      return html`<p>${token.raw}</p>`;
    default:
      return inline(token, depth);
  }
}

function list(token, depth) {
  const items = token.items.map((item) => {
    const tight = item.tokens.map((each) =>
      each.type === "text" && each.tokens ? inlines(each.tokens, depth + 2) : block(each, depth + 2),
    );
    const box = item.task ? html`<span aria-hidden="true">${item.checked ? "☑ " : "☐ "}</span>` : null;
    return html`<li>${box}${tight}</li>`;
  });
  return token.ordered
    ? html`<ol start=${Number(token.start) || 1}>
        ${items}
      </ol>`
    : html`<ul>
        ${items}
      </ul>`;
}

function table(token, depth) {
  const cells = (tag, row) => row.map((cell) => html`<${tag}>${inlines(cell.tokens, depth + 2)}<//>`);
  return html`<div class="cells" tabindex="0" role="region" aria-label="Table">
    <table>
      <thead>
        <tr>
          ${cells("th", token.header)}
        </tr>
      </thead>
      <tbody>
        ${token.rows.map(
          (row) =>
            html`<tr>
              ${cells("td", row)}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

const inlines = (tokens, depth) => (tokens || []).map((token) => inline(token, depth));

function inline(token, depth) {
  if (depth > MAX_DEPTH) return token.raw;
  const inside = () => inlines(token.tokens, depth + 1);
  switch (token.type) {
    case "strong":
      return html`<strong>${inside()}</strong>`;
    case "em":
      return html`<em>${inside()}</em>`;
    case "del":
      return html`<del>${inside()}</del>`;
    case "codespan":
      return html`<code>${token.text}</code>`;
    case "br":
      return html`<br />`;
    case "link":
      return html`<${Elsewhere} href=${token.href} title=${token.title}>${inside()}<//>`;
    case "image":
      return image(token);
    case "checkbox":
      return null;
    case "html":
      return token.raw;
    default:
      return token.tokens ? inside() : plain(token.text ?? token.raw);
  }
}

function image(token) {
  if (isImageData(token.href)) return html`<img src=${token.href} alt=${token.text || "image"} />`;
  return html`<${Elsewhere} href=${token.href}>${token.text || "image"} ↗<//>`;
}

const plain = (text) => text.replace(/&(amp|lt|gt|quot|#39|nbsp);/g, (entity) => ENTITIES[entity]);
