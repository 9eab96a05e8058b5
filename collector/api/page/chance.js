// @ts-check
// Whether a difference between two samples is more than chance. Pure.
//
// Each test answers "yes" (chance alone makes such a difference once in a hundred times or less), "no", or
// "few": too few samples to say.

const FEWEST = 20;
const BEYOND_CHANCE = 2.576; // two-sided, 1 %
// standard error of a percentile of a normal distribution, in σ/√n: √(p(1-p)) / density there
const ERROR_OF = { p50: 1.2533, p95: 2.1132 };
const SIGMA_TO_P90 = 1.2816;

const verdict = (z) => (Math.abs(z) >= BEYOND_CHANCE ? "yes" : "no");

/** Of two numbers of independent events in times of the same length (Poisson). */
export function countsDiffer(a, b) {
  return a + b < FEWEST ? "few" : verdict((b - a) / Math.sqrt(a + b));
}

/** Of two shares of `n` each (two proportions, pooled). */
export function sharesDiffer(a, b) {
  if (a.n < FEWEST || b.n < FEWEST) return "few";
  const pooled = (a.share * a.n + b.share * b.n) / (a.n + b.n);
  const error = Math.sqrt(pooled * (1 - pooled) * (1 / a.n + 1 / b.n));
  return error ? verdict((b.share - a.share) / error) : "no";
}

/**
 * Of two percentiles of durations, whose logarithms are taken to be normal with the spread that p50 and p90
 * show.
 * @param {"p50" | "p95"} which
 */
export function durationsDiffer(which, a, b) {
  if (a.n < FEWEST || b.n < FEWEST || !a[which] || !b[which]) return "few";
  const variance = ({ p50, p90, n }) => (ERROR_OF[which] * (Math.log(p90 / p50) / SIGMA_TO_P90)) ** 2 / n;
  const error = Math.sqrt(variance(a) + variance(b));
  if (!error) return a[which] === b[which] ? "no" : "yes";
  return verdict(Math.log(b[which] / a[which]) / error);
}

/**
 * Of two means, by Welch's test: the spreads may differ, and the values needn't be normal where there are enough of
 * them. {said, low, high}: between `low` and `high` is the difference b - a in 99 of a hundred such samples.
 * Source: www.itl.nist.gov/div898/handbook/eda/section3/eda353.htm
 * @param {{n: number, mean: number | null, deviation: number | null}} a
 * @param {{n: number, mean: number | null, deviation: number | null}} b
 */
export function meansDiffer(a, b) {
  if (a.n < FEWEST || b.n < FEWEST || a.mean === null || b.mean === null) return { said: "few" };
  const [va, vb] = [a, b].map(({ n, deviation }) => (deviation || 0) ** 2 / n);
  const difference = b.mean - a.mean;
  // what floats can't tell apart is equal
  if (Math.abs(difference) <= 1e-12 * Math.abs(a.mean)) return { said: "no", low: 0, high: 0 };
  const freedom = va + vb ? (va + vb) ** 2 / (va ** 2 / (a.n - 1) + vb ** 2 / (b.n - 1)) : Infinity;
  const reach = studentQuantile(freedom) * Math.sqrt(va + vb);
  const said = Math.abs(difference) >= reach ? "yes" : "no";
  return { said, low: difference - reach, high: difference + reach };
}

/**
 * The two-sided 1 % quantile of Student's t, by the first terms of its expansion: right to a thousandth from 19 on.
 * Source: personal.math.ubc.ca/~cbm/aands/page_949.htm (26.7.5)
 */
function studentQuantile(freedom) {
  const z = BEYOND_CHANCE;
  const first = (z ** 3 + z) / 4;
  const second = (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96;
  const third = (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384;
  return z + first / freedom + second / freedom ** 2 + third / freedom ** 3;
}

/**
 * Of two sums over events in times of the same length: how many there are is chance too (compound Poisson, whose
 * variance is the sum of the squares).
 */
export function sumsDiffer(a, b) {
  if (a.n < FEWEST || b.n < FEWEST || a.mean === null || b.mean === null) return "few";
  const variance = ({ n, mean, deviation }) => n * (mean ** 2 + (deviation || 0) ** 2);
  const error = Math.sqrt(variance(a) + variance(b));
  return error ? verdict((b.n * b.mean - a.n * a.mean) / error) : "no";
}

/** Of two figures of which the spread isn't known: "yes" only says that there are enough of both. */
export const enough = (a, b) => (a < FEWEST || b < FEWEST ? "few" : "yes");
