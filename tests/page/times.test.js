import assert from "node:assert/strict";
import { test } from "node:test";
import { duration } from "../../collector/api/page/parts.js";

process.env.TZ = "Europe/Berlin";
const { local } = await import("../../collector/api/page/versus.js");

test("a moment in a field for dates is the reader's, in summer and in winter", () => {
  for (const [moment, said] of [
    ["2026-01-15T12:00:00Z", "2026-01-15T13:00"],
    ["2026-07-15T12:00:00Z", "2026-07-15T14:00"],
  ]) {
    assert.equal(local(Date.parse(moment) / 1000), said);
    assert.equal(new Date(said).getTime(), Date.parse(moment));
  }
  assert.equal(local(undefined), "");
});

test("durations have a unit that suits them, also before a start", () => {
  assert.deepEqual([0.0005, 0.25, 5, 125, -5].map(duration), [
    "500 µs",
    "250 ms",
    "5.00 s",
    "2 min 5 s",
    "−5.00 s",
  ]);
});
