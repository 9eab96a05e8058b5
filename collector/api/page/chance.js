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

/** Of two sums of which the spread isn't known: "yes" only says that there are enough of both. */
export const enough = (a, b) => (a < FEWEST || b < FEWEST ? "few" : "yes");
