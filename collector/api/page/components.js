// @ts-check
// What the views are made of: tables, tiles, pills, times. Everything shown is set as text.

import { ago, exactMoment, get, share } from "./parts.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./view.js";

/** What a state looks like: its colour and its sign, so that it doesn't hang on the colour alone. */
const TONES = {
  OK: ["good", "✓"],
  FINISHED: ["good", "✓"],
  ok: ["good", "✓"],
  ERROR: ["bad", "✕"],
  FAILED: ["bad", "✕"],
  KILLED: ["bad", "✕"],
  firing: ["bad", "▲"],
  pending: ["warn", "△"],
};

export function Pill({ status }) {
  const [tone, sign] = TONES[status] || ["warn", "…"];
  return html`<span class="pill small ${tone}"><span aria-hidden="true">${sign}</span> ${status}</span>`;
}

/** Make rows cards while the columns don't fit, measured whenever the rows or the width change. */
function useCards(rows) {
  const holder = useRef(/** @type {any} */ (null));
  useLayoutEffect(() => {
    const { current } = holder;
    let width = 0;
    const fit = () => {
      if (current.clientWidth === width) return;
      width = current.clientWidth;
      current.classList.remove("cards-of-rows");
      current.classList.toggle("cards-of-rows", current.scrollWidth > width + 1);
    };
    const observer = new ResizeObserver(fit);
    fit();
    observer.observe(current);
    return () => observer.disconnect();
  }, [rows]);
  return holder;
}

/** A moment: how long ago it was, and on hover exactly when, in the reader's zone. */
export function Moment({ ns }) {
  if (!ns) return html`<span class="quiet">never</span>`;
  const iso = new Date(ns / 1e6).toISOString();
  return html`<time datetime=${iso} title=${exactMoment(ns)}>${ago(ns)}</time>`;
}

/** A text that may be long: cut on one line, whole on hover. */
export const Clip = ({ text, tone = "" }) => html`<span class="clip ${tone}" title=${text}>${text}</span>`;

/** Something that isn't there, and what to do about it. */
export const Empty = ({ title, children }) =>
  html`<div class="empty">
    <p><b>${title}</b></p>
    ${children}
  </div>`;

/** What to do if no trace has arrived yet. */
export const HowToSend = () =>
  html`<p>
    To send traces from any OpenTelemetry SDK, set${" "}
    <code>OTEL_EXPORTER_OTLP_ENDPOINT=${location.origin}</code>
  </p>`;

/**
 * A select with a label; `options` are [value, text], `other` stands for a chosen value that isn't among them.
 * @param {{id: string, label: string, options: string[][], chosen: string, other?: string,
 *   onChange: (value: string) => void}} properties
 */
export function Select({ id, label, options, chosen, other, onChange }) {
  const listed = options.some(([value]) => value === chosen);
  return html`<label>
    <span>${label}</span>
    <select id=${id} value=${chosen} onChange=${(event) => onChange(event.target.value)}>
      ${listed ? null : html`<option value=${chosen} selected>${other || chosen}</option>`}
      ${options.map(
        ([value, text]) =>
          html`<option key=${value} value=${value} selected=${value === chosen}>${text}</option>`,
      )}
    </select>
  </label>`;
}

/** A bar that shows a share of a whole, beside the number that says it. */
export const Meter = ({ part, tone = "accent" }) =>
  html`<span class="meter ${tone}" aria-hidden="true">
    <span style=${{ width: `${Math.min(100, 100 * (part || 0)).toFixed(1)}%` }}></span>
  </span>`;

/** A small line over time, without axes; its numbers are in the text beside it. */
export function Spark({ values, tone = "accent" }) {
  const top = Math.max(...values, 1e-12);
  const step = values.length > 1 ? 100 / (values.length - 1) : 0;
  const points = values.map(
    (value, place) => `${(place * step).toFixed(1)},${(22 - (20 * value) / top).toFixed(1)}`,
  );
  return html`<svg class="spark ${tone}" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true">
    <polyline points=${points.join(" ")} vector-effect="non-scaling-stroke" />
  </svg>`;
}

/**
 * A table in which no column is ever cut: where they don't fit beside each other, each row is a card.
 * `columns` are {title, cell(row) -> text or element, sort, words}; words stand on the left, numbers on the
 * right; one with `any` is left out unless any(row) holds for a row. `sort` names what rows are sorted by,
 * `onSort(sort)` is called to sort them otherwise.
 * @param {{label: string, columns: any[], rows: any[], sort?: string, onSort?: (sort: string) => void,
 *   keyOf?: (row: any, place: number) => any}} properties
 */
export function Table({ label, columns, rows, sort = "", onSort, keyOf = (_, place) => place }) {
  const kind = ({ words }, place) => (words || place === 0 ? "text" : "number");
  const holder = useCards(rows);
  const shown = columns.filter(({ any }) => !any || rows.some(any));
  return html`<div class="table" ref=${holder} tabindex="0" role="region" aria-label=${label}>
    <table role="table">
      <thead role="rowgroup">
        <tr role="row">
          ${shown.map(
            (column, place) => html`<${Head} ...${{ column, sort, onSort }} kind=${kind(column, place)} />`,
          )}
        </tr>
      </thead>
      <tbody role="rowgroup">
        ${rows.map(
          (row, number) =>
            html`<tr key=${keyOf(row, number)} role="row">
              ${shown.map(
                (column, place) =>
                  html`<td role="cell" class=${kind(column, place)} data-label=${column.title}>
                    ${column.cell(row)}
                  </td>`,
              )}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function Head({ column: { title, sort: key }, sort, onSort, kind }) {
  if (!key || !onSort) return html`<th role="columnheader" scope="col" class=${kind}>${title}</th>`;
  const active = sort.replace("-", "") === key;
  const descending = sort === `-${key}`;
  const order = active ? (descending ? "descending" : "ascending") : undefined;
  return html`<th role="columnheader" scope="col" class=${kind} aria-sort=${order}>
    <button type="button" class="sort" id="sort-${key}" onClick=${() => onSort(descending ? key : `-${key}`)}>
      ${title}<span aria-hidden="true">${active ? (descending ? " ↓" : " ↑") : ""}</span>
    </button>
  </th>`;
}

/** Figures with their labels; `items` are [label, text or element], without those that say nothing. */
export const Figures = ({ items }) =>
  html`<ul class="figures">
    ${items
      .filter(([, said]) => said !== "" && said !== null && said !== undefined)
      .map(([label, said]) => html`<li key=${label}><b>${said}</b><span>${label}</span></li>`)}
  </ul>`;

/** A number that leads to its rows; as it is where there is no address, or nothing is said. */
export const NumberLink = ({ href, said }) =>
  href && said !== "" ? html`<a class="number-link" href=${href}>${said}</a>` : said;

/**
 * How a number changed: more or less, by how much, and whether that is good; `worse`: more of it is bad. `from` is
 * what the number before is called; "": it stands elsewhere. `href` is the address of its rows.
 */
export function Change({ before, now, worse = null, say, few = false, from = "was", href = "" }) {
  const known = (value) => value !== null && value !== undefined;
  if (!known(before)) return html`<span class="quiet small">${known(now) ? nothingIn(from) : " "}</span>`;
  const other =
    from && html`<span class="quiet">(${from} <${NumberLink} href=${href} said=${say(before)} />)</span>`;
  if (!known(now)) return html`<span class="small">${other}</span>`;
  if (before === now) return html`<span class="quiet small">no change</span>`;
  const more = now > before;
  const tone = few || worse === null ? "quiet" : more === worse ? "bad" : "good";
  const part = before ? `${more ? "+" : "−"}${percent(Math.abs(now / before - 1))}` : "new";
  return html`<span class="small ${tone}" title="before: ${say(before)}">
    <span aria-hidden="true">${more ? "▲" : "▼"}</span> ${part} ${other}
  </span>`;
}

const nothingIn = (from) => (from === "was" || !from ? "nothing before" : `nothing in ${from}`);
const percent = (part) => (part >= 9.995 ? `${(part + 1).toFixed(0)}×` : share(part));

/**
 * The answer to a question that a part of a view asks for itself, after the view; asked again when `path` or
 * `again` changes, and the last answer stays until then. {body, error}: both null until the first one is there.
 * Give the component a key of whatever makes an older answer wrong, such as the filters.
 * @returns {{body: any, error: string | null}}
 */
export function useAnswer(path, again) {
  /** @type {[{body: any, error: string | null}, any]} */
  const [answer, setAnswer] = useState(/** @type {any} */ ({ body: null, error: null }));
  useEffect(() => {
    let wanted = true;
    const set = (body, error) => wanted && setAnswer({ body, error });
    get(path).then(
      (body) => set(body, null),
      (error) => set(null, error.message),
    );
    return () => {
      wanted = false;
    };
  }, [path, again]);
  return answer;
}
