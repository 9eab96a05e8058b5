// @ts-check
// What every view is made of: elements, requests, formatted numbers.
// Everything shown came over HTTP and is set as text, never as HTML.
// Addresses are relative to /-/, so the page also works behind a path prefix.

export const TIMEOUT_MILLISECONDS = 30000;

/**
 * An element of the page's own HTML.
 * @param {string} id
 * @returns {any} whichever kind of element it is
 */
export const at = (id) => document.getElementById(id);

/**
 * An element with text and children; `attributes` are set as they are.
 * @param {string} tag
 * @param {{text?: any, className?: string | null, children?: any[], [attribute: string]: any}} [parts]
 * @returns {any}
 */
export function make(tag, { text, className, children = [], ...attributes } = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = String(text);
  if (className) element.className = className;
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter(Boolean));
  return element;
}

// ---- requests

/** @type {Map<string, Promise<{status: number, body: any}>>} */
const askedAhead = new Map();

/** Ask now for what will be asked for in a moment: the next `ask` of this path gets the answer. */
export function askAhead(path) {
  const answer = answerOf(path, {});
  answer.catch(() => undefined); // whoever asks for it is told
  askedAhead.set(path, answer);
}

/** {status, body} of a JSON answer, whatever its status; body is null if the answer is not JSON. */
export function ask(path, options = {}) {
  const ahead = askedAhead.get(path);
  askedAhead.delete(path);
  return ahead || answerOf(path, options);
}

async function answerOf(path, options) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MILLISECONDS), ...options });
  const body = await answer.json().catch(() => null);
  return { status: answer.status, body };
}

/** The body of a 200; throws an Error with a readable message otherwise. */
export async function get(path) {
  let answer;
  try {
    answer = await ask(path);
  } catch {
    throw new Error("The service can't be reached.");
  }
  if (answer.status !== 200 || !answer.body) throw new Error(sentence(messageOf(answer)));
  return answer.body;
}

export function messageOf({ status, body }) {
  const error = body && body.error;
  return (error && error.message) || (body && body.message) || `the service answered with status ${status}`;
}

export const sentence = (text) =>
  `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

/** `path?a=1&b=2`, without empty values; a list repeats its parameter. */
export function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== "" && each !== null && each !== undefined) query.append(name, each);
    }
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** What an object has by these names. */
export const pick = (object, names) =>
  Object.fromEntries(names.filter((name) => object[name]).map((name) => [name, object[name]]));

export const without = (object, ...names) =>
  Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));

// ---- formatted numbers

export const number = new Intl.NumberFormat();
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 0) return `−${duration(-seconds)}`; // an event before its span, by another clock
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 0.1) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(2)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return minutes < 2880
    ? `${Math.floor(minutes / 60)} h ${minutes % 60} min`
    : `${Math.floor(minutes / 1440)} days`;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit += 1) count /= 1024;
  return `${unit ? count.toFixed(1) : number.format(count)} ${units[unit]}`;
}

export function money(usd) {
  if (usd === null || usd === undefined) return "";
  if (usd === 0 || usd >= 1) return `$${usd >= 10000 ? short.format(usd) : usd.toFixed(2)}`;
  return usd >= 0.0001 ? `$${usd.toFixed(4)}` : `$${Number(usd.toPrecision(2))}`;
}

export const compact = (count) =>
  count === null || count === undefined ? "" : count < 10000 ? number.format(count) : short.format(count);
export const share = (part) =>
  part === null || part === undefined ? "" : `${(100 * part).toFixed(part && part < 0.1 ? 1 : 0)} %`;

export const scoreNumber = (value) => String(Number(value.toPrecision(4)));

/** A score as `helpful 0.8 good`: its name, its number and its label. */
export function scoreText({ name, value, label, error_type }) {
  const verdict = label === "pass" || label === "fail";
  const parts = [name, value === null || verdict ? "" : scoreNumber(value), label || ""];
  return [...parts, error_type ? `failed: ${error_type}` : ""].filter(Boolean).join(" ");
}

export function tokens(counts) {
  const say = (count) => (count === null ? "?" : number.format(count));
  if (counts.input === null && counts.output === null) return counts.total === null ? "" : say(counts.total);
  return `${say(counts.input)}→${say(counts.output)}`;
}

/** What is known of single modalities: ["Audio tokens in→out", "120→50"], for each that a sender tells. */
export function byModality(counts) {
  return ["text", "image", "audio", "video"].map((modality) => [
    `${modality[0].toUpperCase()}${modality.slice(1)} tokens in→out`,
    tokens({ input: counts[`${modality}_input`], output: counts[`${modality}_output`], total: null }),
  ]);
}

export function moment(unixNs) {
  return unixNs ? new Date(unixNs / 1e6).toLocaleString() : "never";
}

/** With the zone and milliseconds, for a closer look. */
export function exactMoment(unixNs) {
  const date = new Date(unixNs / 1e6);
  const zone = { dateStyle: "full", timeStyle: "long" };
  return `${date.toLocaleString(undefined, /** @type {any} */ (zone))} (${date.toISOString()})`;
}

/** "5 min ago" within a day, else the date and time. */
export function ago(unixNs) {
  const seconds = (Date.now() - unixNs / 1e6) / 1000;
  if (seconds < 0 || seconds > 86400) return moment(unixNs);
  if (seconds < 2) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min ago` : `${Math.floor(seconds / 3600)} h ago`;
}
