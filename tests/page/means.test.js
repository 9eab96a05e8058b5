import assert from "node:assert/strict";
import { test } from "node:test";
import { meansDiffer, sumsDiffer } from "../../collector/api/page/chance.js";

const side = (mean, n, deviation = 1) => ({ mean, n, deviation });

test("means differ by their spread and their number, and the interval says by how much", () => {
  assert.equal(meansDiffer(side(1, 19), side(9, 500)).said, "few");
  assert.equal(meansDiffer(side(null, 50), side(1, 50)).said, "few");
  assert.equal(meansDiffer(side(1, 50), side(1.2, 50)).said, "no");
  assert.equal(meansDiffer(side(1, 5000), side(1.2, 5000)).said, "yes");
  assert.equal(meansDiffer(side(1, 50, 0), side(1, 50, 0)).said, "no");
  assert.equal(meansDiffer(side(1, 50, 0), side(2, 50, 0)).said, "yes");
  const { low, high } = meansDiffer(side(1, 5000), side(1.2, 5000));
  assert.ok(low > 0.14 && high < 0.26 && Math.abs((low + high) / 2 - 0.2) < 1e-9);
});

test("the reach of few samples is that of Student's t", () => {
  // both sides alike: 38 degrees of freedom, of which tables give 2.712
  const { low, high } = meansDiffer(side(0, 20), side(0.1, 20));
  assert.ok(Math.abs((high - low) / 2 / Math.sqrt(2 / 20) - 2.7116) < 0.002);
});

test("sums differ beyond what the number of events and their sizes make by chance", () => {
  assert.equal(sumsDiffer(side(1, 5), side(1, 500)), "few");
  assert.equal(sumsDiffer(side(1, 100, 3), side(1, 130, 3)), "no");
  assert.equal(sumsDiffer(side(1, 1000), side(1, 1300)), "yes");
  assert.equal(sumsDiffer(side(0, 50, 0), side(0, 50, 0)), "no");
});

test("of equal samples with a long tail few are found to differ", () => {
  let seed = 11;
  const next = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const sample = () => {
    const values = Array.from({ length: 60 }, () => Math.exp(1.2 * (next() + next() + next() - 1.5)));
    const mean = values.reduce((sum, value) => sum + value) / 60;
    const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    return side(mean, 60, Math.sqrt(squares / 59));
  };
  const found = Array.from({ length: 1000 }, () => meansDiffer(sample(), sample()).said);
  assert.ok(found.filter((said) => said === "yes").length < 25);
});
