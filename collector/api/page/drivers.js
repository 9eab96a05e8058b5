// @ts-check
// What changed since the time before, and what drives it: the groups that have most of the difference.

import { countsDiffer, enough } from "./chance.js";
import { Change, Meter, useAnswer } from "./components.js";
import { address, duration, money, number, without } from "./parts.js";
import { html } from "./view.js";

const DIMENSIONS = ["agent", "model", "tool", "version", "user"];
const METRICS = ["count", "errors", "duration_seconds_mean", "cost_usd"];
// a change is told of from a tenth on, a group from a fifth of the change on
const LEAST_CHANGE = 0.1;
const LEAST_SHARE = 0.2;
const SHOWN = 3;

const both = (values, of) => ({ a: of("a", values) || 0, b: of("b", values) || 0 });
const sum = (name) => (values) => both(values, (side) => values[name][side]);
const time = (values) =>
  both(values, (side) => (values.count[side] || 0) * (values.duration_seconds_mean[side] || 0));

/** @type {[string, (values: any) => {a: number, b: number}, (value: any) => string, boolean | null, any][]} */
const SUMS = [
  ["Cost", sum("cost_usd"), money, true, { sort: "-cost" }],
  ["Errors", sum("errors"), number.format, true, { status: "ERROR" }],
  ["Time", time, duration, true, { sort: "-duration" }],
  ["Traces", sum("count"), number.format, null, {}],
];

/**
 * What changed and by which groups, of answers to the same comparison by several dimensions. Pure.
 * @param {{[dimension: string]: any}} answers
 */
export function driversOf(answers) {
  const [total] = Object.values(answers).map((answer) => answer.total);
  return SUMS.flatMap(([title, read, say, worse, rows]) => {
    const { a, b } = read(total);
    const difference = b - a;
    const isChange = Math.abs(difference) >= LEAST_CHANGE * Math.max(a, 1e-9);
    const counts = sum("count")(total);
    const sure = title === "Errors" || title === "Traces" ? countsDiffer(a, b) : enough(counts.a, counts.b);
    if (!isChange || !a || sure !== "yes") return [];
    const groups = Object.entries(answers).flatMap(([dimension, answer]) =>
      answer.groups.flatMap(({ key, values }) => {
        const sides = read(values);
        const part = (sides.b - sides.a) / difference;
        const value = key[dimension];
        return value !== null && part >= LEAST_SHARE ? [{ dimension, value, part, ...sides }] : [];
      }),
    );
    groups.sort((one, other) => other.part - one.part);
    return [{ title, a, b, say, worse, rows, groups: groups.slice(0, SHOWN) }];
  });
}

/** The sides of a comparison of a time with the one of the same length before; null where it has no start. */
export function before(since, until, now = Date.now() / 1000) {
  const relative = /^-(\d+)([mhd])$/.exec(since || "");
  const unit = { m: 60, h: 3600, d: 86400 };
  const begin = relative ? now - Number(relative[1]) * unit[relative[2]] : Number(since);
  const end = until ? Number(until) : now;
  if (!begin || !(end > begin)) return null;
  const [from, to] = [Math.floor(begin), Math.ceil(end)];
  return { "a.since": 2 * from - to, "a.until": from, "b.since": from, "b.until": to };
}

/** A minute in which the answers stay the same, though the view is asked for again. */
const minute = () => Math.floor(Date.now() / 60000) * 60;

export function Drivers({ asked, into }) {
  const sides = before(asked.since, asked.until, minute());
  return sides ? html`<${Changes} ...${{ asked, sides, again: minute(), into }} />` : null;
}

function Changes({ asked, sides, again, into }) {
  const filters = without(asked, "since", "until");
  const question = { ...filters, ...sides, metric: METRICS, top: 50 };
  const paths = DIMENSIONS.map((by) => address("traces/compare", { ...question, by }));
  const answers = paths.map((path) => useAnswer(path, again));
  const known = answers.every(({ body, error }) => body || error);
  const bodies = Object.fromEntries(
    DIMENSIONS.flatMap((by, place) => (answers[place].body ? [[by, answers[place].body]] : [])),
  );
  const changes = Object.keys(bodies).length ? driversOf(bodies) : [];
  const said = !known
    ? html`<p class="quiet">Loading…</p>`
    : !changes.length
      ? html`<p class="quiet">
          Nothing changed by a tenth or more beyond chance, or there is too little to compare with.
        </p>`
      : html`<ul class="changes">
          ${changes.map((each) => html`<${Changed} key=${each.title} ...${each} into=${into} />`)}
        </ul>`;
  const compare = `#/compare${address("", { ...filters, ...sides })}`;
  return html`<section class="changed">
    <h2>What changed <a class="aside" href=${compare}>Compare in full</a></h2>
    ${said}
  </section>`;
}

function Changed({ title, a, b, say, worse, rows, groups, into }) {
  return html`<li>
    <p>
      <a href=${into(rows)}><b>${title}</b> ${say(b)}</a>${" "}
      <${Change} before=${a} now=${b} worse=${worse} say=${say} />
    </p>
    ${groups.map(
      (group) =>
        html`<p class="driver" key=${group.dimension + group.value}>
          <span class="quiet">${group.dimension}</span>
          <a href=${into({ ...rows, [group.dimension]: group.value })}>${group.value}</a>
          <${Meter} part=${group.part} />
          <span class="quiet">${say(group.a)} → ${say(group.b)}</span>
        </p>`,
    )}
    ${groups.length ? null : html`<p class="quiet">No single agent, model, tool, version or user stands out.</p>`}
  </li>`;
}
