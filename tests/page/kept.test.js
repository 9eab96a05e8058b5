import assert from "node:assert/strict";
import { test } from "node:test";
import { runFilter } from "../../collector/api/page/palette.js";
import { savedViews } from "../../collector/api/page/saved.js";
import { trendsOf } from "../../collector/api/page/tops.js";
import { withEmpty } from "../../collector/api/page/trace.js";

test("of what a browser keeps, what isn't a view is left out, and the views stay", () => {
  const good = { name: "mine", hash: "#/traces" };
  const bad = [null, 1, "x", [], {}, { name: 1, hash: "#/" }, { name: "y", hash: null }, { name: "z", hash: "//x" }];
  globalThis.localStorage = { getItem: () => JSON.stringify([...bad, good, ...bad]) };
  assert.deepEqual(savedViews(), [good]);
  globalThis.localStorage = { getItem: () => "{" };
  assert.deepEqual(savedViews(), []);
});

test("a filter of runs by name can't be left by what somebody types", () => {
  assert.equal(runFilter("v2"), "attributes.run_name ILIKE '%v2%'");
  assert.equal(runFilter("it's \"50%\""), "attributes.run_name ILIKE '%it_s _50__%'");
});

test("the trend of an error has a value at each step that any error has, and is worked out once", () => {
  const step = (seconds, count) => ({ start_unix_ns: seconds * 1e9, values: { count } });
  const groups = [
    { key: { error: "a" }, series: [step(60, 2), step(240, 1)] },
    { key: { error: "b" }, series: [step(120, 5)] },
    { key: { error: "c" } },
  ];
  const stats = { bucket_seconds: 60, groups };
  const found = trendsOf(stats);
  assert.deepEqual(found.get("a"), [2, 0, 0, 1]);
  assert.deepEqual(found.get("b"), [0, 5, 0, 0]);
  assert.equal(found.get("c"), undefined);
  assert.equal(trendsOf(stats), found);
});

test("a span has what the service leaves out", () => {
  const span = withEmpty({ span_id: "a", depth: 0, tokens: { input: 5 }, is_error: true });
  assert.deepEqual([span.is_error, span.recovered_retry, span.model, span.links], [true, false, null, []]);
  assert.deepEqual([span.tokens.input, span.tokens.output, span.tokens.audio_input], [5, null, null]);
  assert.deepEqual(withEmpty({ span_id: "b" }).tokens.cache_read, null);
});
