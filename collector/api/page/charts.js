// @ts-check
// Lines over time or steps, drawn by uPlot (vendored: uplot.js, uplot.LICENSE.txt).

import { compact, duration, make, money, share } from "./parts.js";
import { html, useLayoutEffect, useRef } from "./view.js";

const HEIGHT = 170;
// padding and border of a figure, both sides
const FRAME = 28;
const plain = (value) => (value === null || value === undefined ? "" : String(Number(value.toPrecision(4))));
const UNITS = { seconds: duration, usd: money, share, count: compact, plain };
const drawn = new Set();

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const COLORS = ["line-1", "line-2", "line-3", "line-4", "line-5", "line-6"];

/**
 * A chart with a title; `lines` are {label, values}, `xs` the same number of seconds since 1970, or of steps.
 * The latest values are in the label for screen readers.
 * @param {string} title
 * @param {number[]} xs
 * @param {{label: string, values: (number | null)[]}[]} lines
 * @param {{unit?: string, time?: boolean, bars?: boolean, width?: number,
 *   onRange?: (from: number, to: number) => void}} [options] `width` in pixels, until it is on the page
 */
export function chart(
  title,
  xs,
  lines,
  { unit = "count", time = true, bars = false, width = 300, onRange } = {},
) {
  const say = UNITS[unit];
  const holder = make("div", { className: "plot" });
  const figure = make("figure", {
    className: "chart",
    children: [make("figcaption", { text: title }), holder],
  });
  const last = lines.map(
    ({ label, values }) => `${label}: ${say(values.findLast((value) => value !== null)) || "none"}`,
  );
  holder.setAttribute("role", "img");
  holder.setAttribute("aria-label", `${title}. Latest ${last.join(", ")}`);
  const ink = color("quiet");
  const grid = { stroke: color("line"), width: 1 };
  const latest = xs.findLastIndex((_, place) => lines.some(({ values }) => values[place] !== null));
  // the legend says the latest values until somebody points at others
  const tellLatest = (plot) => plot.cursor.left < 0 && latest >= 0 && plot.setLegend({ idx: latest });
  const when = (x) => (time ? new Date(x * 1000).toLocaleString() : plain(x));
  const options = {
    width,
    height: HEIGHT,
    cursor: { y: false, drag: { x: Boolean(onRange), y: false, setScale: false } },
    legend: { live: true },
    scales: {
      x: { time },
      y: unit === "plain" ? {} : { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] },
    },
    axes: [
      { stroke: ink, grid, ticks: grid },
      { stroke: ink, grid, ticks: grid, size: 70, values: (_, ticks) => ticks.map((tick) => say(tick)) },
    ],
    series: [
      { label: time ? "Time" : "Step", value: (_, x) => (x === null || x === undefined ? "–" : when(x)) },
      ...lines.map(({ label }, place) => ({
        label,
        stroke: color(COLORS[place % COLORS.length]),
        fill: bars && place === 0 ? `${color(COLORS[place])}33` : undefined,
        width: 2,
        spanGaps: true,
        points: { show: xs.length < 40 },
        value: (_, value) => (value === null ? "–" : say(value)),
      })),
    ],
    hooks: {
      ready: [tellLatest],
      setCursor: [tellLatest],
      setSelect: [
        (plot) => {
          if (!onRange || plot.select.width < 4) return;
          onRange(
            plot.posToVal(plot.select.left, "x"),
            plot.posToVal(plot.select.left + plot.select.width, "x"),
          );
        },
      ],
    },
  };
  const plot = new uPlot(options, [xs, ...lines.map(({ values }) => values)], holder);
  const fit = new ResizeObserver(([{ contentRect }]) => {
    if (!holder.isConnected) return;
    if (contentRect.width > 40) plot.setSize({ width: Math.floor(contentRect.width), height: HEIGHT });
  });
  fit.observe(holder);
  drawn.add({ holder, plot, fit });
  return figure;
}

/**
 * A chart in a template; drawn anew when what it shows, or its theme, has changed.
 * @param {{title: string, xs: number[], lines: {label: string, values: (number | null)[]}[], options?: any}} what
 */
export function Chart({ title, xs, lines, options = {} }) {
  const holder = useRef(/** @type {any} */ (null));
  const { onRange, ...plainOptions } = options;
  const range = useRef(onRange);
  range.current = onRange;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const shown = JSON.stringify([title, xs, lines, plainOptions, dark]);
  useLayoutEffect(() => {
    const listen = onRange ? (from, to) => range.current(from, to) : undefined;
    // as wide as its place from the start, or its legend would have other lines
    const width = Math.max(60, holder.current.clientWidth - FRAME);
    holder.current.replaceChildren(chart(title, xs, lines, { ...plainOptions, width, onRange: listen }));
    tidyCharts();
  }, [shown]);
  return html`<div class="chart-place" ref=${holder}></div>`;
}

/** Free charts that are no longer on the page. */
export function tidyCharts() {
  for (const each of drawn) {
    if (each.holder.isConnected) continue;
    each.fit.disconnect();
    each.plot.destroy();
    drawn.delete(each);
  }
}

/** Steps of an answer as columns: every step from first to last; missing ones get the values in `absent`. */
export function columns(series, bucketSeconds, metrics, absent = {}) {
  const xs = [];
  const values = Object.fromEntries(metrics.map((metric) => [metric, []]));
  if (!series.length) return { xs, values };
  const known = new Map(series.map((step) => [Math.round(step.start_unix_ns / 1e9), step.values]));
  let begin = Math.round(series[0].start_unix_ns / 1e9);
  let end = Math.round(series[series.length - 1].start_unix_ns / 1e9);
  if (begin === end) [begin, end] = [begin - bucketSeconds, end + bucketSeconds]; // one point alone gives no axis
  for (let x = begin; x <= end && xs.length < 5000; x += bucketSeconds) {
    xs.push(x);
    for (const metric of metrics) values[metric].push(known.get(x)?.[metric] ?? absent[metric] ?? null);
  }
  return { xs, values };
}
