// @ts-check
// What changed since the time before, and what drives it: the groups that have most of the difference.

import { countsDiffer, sharesDiffer, sumsDiffer } from "./chance.js";
import { Change, Meter, NumberLink, useAnswer } from "./components.js";
import { address, duration, money, number, share, without } from "./parts.js";
import { before } from "./periods.js";
import { html } from "./view.js";

const DIMENSIONS = ["agent", "model", "tool", "version", "user"];
const METRICS = [
  ...["count", "errors", "duration_seconds_mean", "duration_seconds_stddev"],
  ...["cost_usd", "cost_usd_mean", "cost_usd_stddev", "traces_with_cost"],
];
// a change is told of from a tenth on; a group if it has a fifth of the change, and a tenth more than its share of
// what was before: what is in every trace drives nothing
const LEAST_CHANGE = 0.1;
const LEAST_PART = 0.2;
const LEAST_EXCESS = 0.1;
const SHOWN = 3;

const both = (values, of) => ({ a: of("a", values) || 0, b: of("b", values) || 0 });
const sum = (name) => (values) => both(values, (side) => values[name][side]);
const time = (values) =>
  both(values, (side) => (values.count[side] || 0) * (values.duration_seconds_mean[side] || 0));
const rate = (values) => both(values, (side) => (values.errors[side] || 0) / (values.count[side] || 1));

/** The errors of both sides; before, as many as there had been with as many traces as now. */
function errors(values, total) {
  const { a, b } = sum("errors")(values);
  return { a: (a * (total.count.b || 0)) / (total.count.a || 1), b };
}

const sampled = (values, of, side, count) => ({
  n: values[count][side] || 0,
  mean: values[`${of}_mean`][side],
  deviation: values[`${of}_stddev`][side],
});
const isSumSure = (of, count) => (values) =>
  sumsDiffer(sampled(values, of, "a", count), sampled(values, of, "b", count));
const isRateSure = (total) => {
  const { a, b } = rate(total);
  return sharesDiffer({ share: a, n: total.count.a || 0 }, { share: b, n: total.count.b || 0 });
};

/**
 * title   of what changed
 * read    (values, total) -> {a, b}: what is summed up, of which groups have their part
 * shown   values -> {a, b}: what is said of it
 * @type {any[]}
 */
const CHANGES = [
  {
    title: "Cost",
    read: sum("cost_usd"),
    say: money,
    worse: true,
    rows: { sort: "-cost" },
    sure: isSumSure("cost_usd", "traces_with_cost"),
  },
  {
    title: "Error rate",
    read: errors,
    shown: rate,
    say: share,
    worse: true,
    rows: { status: "ERROR" },
    sure: isRateSure,
  },
  {
    title: "Time",
    read: time,
    say: duration,
    worse: true,
    rows: { sort: "-duration" },
    sure: isSumSure("duration_seconds", "count"),
  },
  {
    title: "Traces",
    read: sum("count"),
    say: number.format,
    worse: null,
    rows: {},
    sure: ({ count }) => countsDiffer(count.a || 0, count.b || 0),
  },
];

/** The groups that have most of a difference, in all dimensions, the largest part first. */
function largest(answers, total, { read, shown = read }) {
  const whole = read(total, total);
  const groups = Object.entries(answers).flatMap(([dimension, answer]) =>
    answer.groups.flatMap(({ key, values }) => {
      const own = read(values, total);
      const part = (own.b - own.a) / (whole.b - whole.a);
      const isMore = part >= LEAST_PART && part - own.a / whole.a >= LEAST_EXCESS;
      return key[dimension] !== null && isMore
        ? [{ dimension, value: key[dimension], part, ...shown(values) }]
        : [];
    }),
  );
  return groups.sort((one, other) => other.part - one.part).slice(0, SHOWN);
}

/**
 * What changed and by which groups, of answers to the same comparison by several dimensions. Pure.
 * @param {{[dimension: string]: any}} answers
 */
export function driversOf(answers) {
  const [total] = Object.values(answers).map((answer) => answer.total);
  return CHANGES.flatMap((change) => {
    const { title, read, shown = read, say, worse, rows, sure } = change;
    const { a, b } = read(total, total);
    if (!a || Math.abs(b - a) < LEAST_CHANGE * a || sure(total) !== "yes") return [];
    return [{ title, ...shown(total), say, worse, rows, groups: largest(answers, total, change) }];
  });
}

/** A minute in which the answers stay the same, though the view is asked for again. */
const minute = () => Math.floor(Date.now() / 60000) * 60;

export function Drivers({ asked, into }) {
  const sides = before(asked.since, asked.until, minute());
  return sides ? html`<${Changes} ...${{ asked, sides, again: minute(), into }} />` : null;
}

function Changes({ asked, sides, again, into }) {
  const filters = without(asked, "since", "until");
  const earlier = { since: sides["a.since"], until: sides["a.until"] };
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
          ${changes.map((each) => html`<${Changed} key=${each.title} ...${each} into=${into} earlier=${earlier} />`)}
        </ul>`;
  const compare = `#/compare${address("", { ...filters, ...sides })}`;
  return html`<section class="changed">
    <h2>What changed <a class="aside" href=${compare}>Compare in full</a></h2>
    ${said}
  </section>`;
}

/** `earlier` is the time before, of which `a` is. */
function Changed({ title, a, b, say, worse, rows, groups, into, earlier }) {
  return html`<li>
    <p>
      <a href=${into(rows)}><b>${title}</b> ${say(b)}</a>${" "}
      <${Change} before=${a} now=${b} worse=${worse} say=${say} href=${into({ ...rows, ...earlier })} />
    </p>
    ${groups.map(({ dimension, value, part, ...group }) => {
      const own = { ...rows, [dimension]: value };
      return html`<p class="driver" key=${dimension + value}>
        <span class="quiet">${dimension}</span>
        <a href=${into(own)}>${value}</a>
        <${Meter} part=${part} />
        <span class="quiet">
          <${NumberLink} href=${into({ ...own, ...earlier })} said=${say(group.a)} /> →${" "}
          <${NumberLink} href=${into(own)} said=${say(group.b)} />
        </span>
      </p>`;
    })}
    ${groups.length ? null : html`<p class="quiet">No single agent, model, tool, version or user stands out.</p>`}
  </li>`;
}
