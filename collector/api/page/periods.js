// @ts-check
// A time and the one of the same length before it. Pure.

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
