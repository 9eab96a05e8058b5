import assert from "node:assert/strict";
import { test } from "node:test";
import { countsDiffer, durationsDiffer, enough, sharesDiffer } from "../../collector/api/page/chance.js";

test("counts differ only beyond what chance makes", () => {
  assert.equal(countsDiffer(3, 8), "few");
  assert.equal(countsDiffer(100, 110), "no");
  assert.equal(countsDiffer(100, 150), "yes");
  assert.equal(countsDiffer(150, 100), "yes");
  assert.equal(countsDiffer(0, 40), "yes");
});

test("shares differ only beyond what chance makes", () => {
  const side = (share, n) => ({ share, n });
  assert.equal(sharesDiffer(side(0.1, 10), side(0.9, 1000)), "few");
  assert.equal(sharesDiffer(side(0.1, 100), side(0.15, 100)), "no");
  assert.equal(sharesDiffer(side(0.1, 10000), side(0.15, 10000)), "yes");
  assert.equal(sharesDiffer(side(0, 100), side(0, 100)), "no");
});

test("durations differ by their spread and their number", () => {
  const side = (p50, n, spread = 2) => ({ p50, p90: p50 * spread, p95: p50 * spread * 1.3, n });
  assert.equal(durationsDiffer("p50", side(1, 5), side(9, 500)), "few");
  assert.equal(durationsDiffer("p50", side(1, 50), side(1.1, 50)), "no");
  assert.equal(durationsDiffer("p50", side(1, 5000), side(1.1, 5000)), "yes");
  assert.equal(durationsDiffer("p95", side(1, 300), side(1.1, 300)), "no");
  assert.equal(durationsDiffer("p50", side(1, 50, 1), side(1, 50, 1)), "no");
  assert.equal(durationsDiffer("p50", { p50: null, p90: null, p95: null, n: 50 }, side(1, 50)), "few");
});

test("no difference is found more than once in fifty among equal samples", () => {
  let seed = 7;
  const next = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const sample = () => {
    const failed = Array.from({ length: 200 }, () => next() < 0.2).filter(Boolean).length;
    return { share: failed / 200, n: 200 };
  };
  const found = Array.from({ length: 1000 }, () => sharesDiffer(sample(), sample())).filter(
    (said) => said === "yes",
  );
  assert.ok(found.length < 20, String(found.length));
});

test("a sum needs samples on both sides", () => {
  assert.equal(enough(19, 1000), "few");
  assert.equal(enough(20, 20), "yes");
});
