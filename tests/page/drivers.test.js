import assert from "node:assert/strict";
import { test } from "node:test";
import { driversOf } from "../../collector/api/page/drivers.js";
import { before } from "../../collector/api/page/periods.js";

const values = (count, errors, seconds, usd) => {
  const side = ([a, b]) => ({ a, b });
  return {
    count: side(count),
    errors: side(errors),
    duration_seconds_mean: side(seconds),
    duration_seconds_stddev: side(seconds.map((mean) => mean / 2)),
    cost_usd: side(usd),
    cost_usd_mean: side(usd.map((sum, place) => sum / count[place])),
    cost_usd_stddev: side(usd.map((sum, place) => sum / count[place] / 2)),
    traces_with_cost: side(count),
  };
};
const answer = (dimension, total, groups) => ({
  total,
  groups: groups.map(([value, ofGroup]) => ({ key: { [dimension]: value }, values: ofGroup })),
});

test("a change names the groups that have most of it", () => {
  const total = values([100, 104], [10, 10], [1, 1], [1, 3]);
  const [cost, ...others] = driversOf({
    model: answer("model", total, [
      ["large", values([50, 50], [5, 5], [1, 1], [0.5, 2.5])],
      ["small", values([50, 54], [5, 5], [1, 1], [0.5, 0.5])],
    ]),
    agent: answer("agent", total, [[null, values([100, 104], [10, 10], [1, 1], [1, 3])]]),
  });
  assert.deepEqual(others, []);
  assert.equal(cost.title, "Cost");
  assert.deepEqual(
    cost.groups.map(({ dimension, value, part }) => [dimension, value, part]),
    [["model", "large", 1]],
  );
});

test("what every trace has drives nothing, and an error rate is judged by its share", () => {
  const total = values([400, 200], [20, 60], [1, 1], [4, 2]);
  const changes = driversOf({
    model: answer("model", total, [["only", total]]),
    tool: answer("tool", total, [
      ["broken", values([100, 50], [5, 50], [1, 1], [1, 0.5])],
      ["fine", values([300, 150], [15, 10], [1, 1], [3, 1.5])],
    ]),
  });
  assert.deepEqual(
    changes.map(({ title, groups }) => [title, groups.map(({ value }) => value)]),
    [
      ["Cost", []],
      ["Error rate", ["broken"]],
      ["Time", []],
      ["Traces", []],
    ],
  );
  const [, rate] = changes;
  assert.deepEqual([rate.a, rate.b, rate.groups[0].a, rate.groups[0].b], [0.05, 0.3, 0.05, 1]);
});

test("what chance makes, or too few traces, is no change", () => {
  const groups = [["a", values([10, 14], [1, 3], [1, 1], [1, 5])]];
  assert.deepEqual(driversOf({ agent: answer("agent", groups[0][1], groups) }), []);
});

test("a cost that a few large traces make is no change", () => {
  const total = values([100, 100], [1, 1], [1, 1], [1, 1.8]);
  assert.equal(driversOf({ agent: answer("agent", total, []) })[0].title, "Cost");
  total.cost_usd_stddev = { a: 0.02, b: 0.08 };
  assert.deepEqual(driversOf({ agent: answer("agent", total, []) }), []);
});

test("the time before has the same length and ends where this one begins", () => {
  const sides = before("-1h", "", 10_000);
  assert.deepEqual(sides, { "a.since": 2800, "a.until": 6400, "b.since": 6400, "b.until": 10_000 });
  assert.deepEqual(before("5000", "6000", 9e9), {
    "a.since": 4000,
    "a.until": 5000,
    "b.since": 5000,
    "b.until": 6000,
  });
  assert.equal(before("0", ""), null);
});
