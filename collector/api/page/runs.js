// @ts-check
// Runs of an experiment: the list, one run with its metrics by step, several compared.

import { chart } from "./charts.js";
import {
  address,
  compact,
  duration,
  empty,
  get,
  link,
  make,
  messageOf,
  ask,
  money,
  moment,
  number,
  pill,
  sentence,
  table,
} from "./parts.js";
import { select } from "./overview.js";

const SHOWN = 50;
const POINTS = 300;
const MAX_COMPARED = 20;

const digits = (value) =>
  value === null || value === undefined
    ? ""
    : Number.isInteger(value)
      ? number.format(value)
      : String(Number(value.toPrecision(5)));

async function experiments() {
  // MLflow's own list, through the proxy: the rights are the same
  const { status, body } = await ask("../ajax-api/2.0/mlflow/experiments/search", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ max_results: 1000, order_by: ["last_update_time DESC"] }),
  });
  if (status !== 200)
    throw new Error(sentence(`the experiments can't be listed: ${messageOf({ status, body })}`));
  return (body.experiments || []).map(({ experiment_id: id, name }) => [id, name]);
}

export async function runs(parameters, go) {
  const known = await experiments();
  if (!known.length) return [empty("No experiments.", "MLflow has none that you may see.")];
  const chosen = parameters.experiment_id || known[0][0];
  const picker = select("experiment", "Experiment", known, chosen, (experiment_id) => go({ experiment_id }));
  const filter = make("input", {
    id: "run-filter",
    name: "filter",
    value: parameters.filter || "",
    placeholder: "metrics.loss < 1 and params.model = 'x'",
    spellcheck: "false",
  });
  const form = make("form", {
    className: "bar",
    role: "search",
    children: [
      picker,
      make("label", { children: [make("span", { text: "Filter (MLflow syntax)" }), filter] }),
    ],
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go({ experiment_id: chosen, filter: filter.value });
  });
  const page = await get(
    address("runs", {
      experiment_id: chosen,
      filter: parameters.filter,
      limit: SHOWN,
      page_token: parameters.page_token,
    }),
  );
  if (!page.runs.length)
    return [
      form,
      empty("No runs match.", "Log a run with mlflow.start_run(), or choose another experiment."),
    ];
  const keys = [...new Set(page.runs.flatMap((run) => run.metrics.map(({ key }) => key)))].slice(0, 5);
  const compare = make("button", {
    type: "button",
    className: "plain",
    text: "Compare",
    disabled: true,
    id: "compare",
  });
  const marked = () =>
    [...document.querySelectorAll("input.mark:checked")].map((box) => box.getAttribute("value"));
  const mark = (run) => {
    const box = make("input", {
      type: "checkbox",
      className: "mark",
      value: run.run_id,
      "aria-label": `Compare ${run.name || run.run_id}`,
    });
    box.addEventListener("change", () => {
      const count = marked().length;
      compare.disabled = count < 2 || count > MAX_COMPARED;
      compare.textContent = count < 2 ? "Compare" : `Compare ${count}`;
    });
    return box;
  };
  compare.addEventListener("click", () => {
    location.hash = `#/compare${address("", { run_id: marked() })}`;
  });
  const last = (run, key) => run.metrics.find((metric) => metric.key === key)?.last;
  const columns = [
    { title: "", cell: mark },
    { title: "Run", cell: (run) => link(run.name || run.run_id, `#/run/${run.run_id}`) },
    { title: "Status", cell: (run) => pill(run.status) },
    { title: "Started", cell: (run) => moment(run.start_unix_ns) },
    { title: "Duration", wide: true, cell: (run) => duration(run.duration_seconds) },
    ...keys.map((key) => ({ title: key, wide: true, cell: (run) => digits(last(run, key)) })),
  ];
  const parts = [
    form,
    make("p", {
      children: [compare, make("span", { className: "quiet small", text: " Select two or more runs." })],
    }),
    table("Runs", columns, page.runs),
  ];
  if (page.next_page_token) {
    const more = make("button", { type: "button", className: "plain", text: "Next page" });
    more.addEventListener("click", () =>
      go({ ...parameters, experiment_id: chosen, page_token: page.next_page_token }),
    );
    parts.push(make("p", { className: "pages", children: [more] }));
  }
  return parts;
}

export async function run(id) {
  const found = await get(`runs/${encodeURIComponent(id)}?history=${POINTS}`);
  const traces = found.traces;
  const figures = [
    ["Status", pill(found.status)],
    ["Started", moment(found.start_unix_ns)],
    ["Duration", duration(found.duration_seconds)],
    ["User", found.user],
    [
      "Traces",
      traces ? link(number.format(traces.count), `#/traces${address("", { run_id: id, since: "0" })}`) : "",
    ],
    ["Cost of traces", traces ? money(traces.cost_usd) : ""],
    ["Tokens of traces", traces ? compact(traces.total_tokens) : ""],
    ["Errors in traces", traces && traces.count ? number.format(traces.errors) : ""],
  ].filter(([, said]) => said);
  const charts = found.metrics
    .filter((metric) => metric.total_points > 1)
    .map((metric) => metricChart(metric.key, [[found.name || id, metric]]));
  return [
    make("div", {
      className: "title",
      children: [
        make("h2", { text: found.name || id }),
        link(
          "Open in MLflow",
          `../#/experiments/${encodeURIComponent(found.experiment_id)}/runs/${encodeURIComponent(id)}`,
        ),
      ],
    }),
    make("ul", {
      className: "figures",
      children: figures.map(([label, said]) =>
        make("li", {
          children: [
            make("b", said instanceof Node ? { children: [said] } : { text: said }),
            make("span", { text: label }),
          ],
        }),
      ),
    }),
    ...found.incomplete.map((text) => make("p", { className: "notice", text: `Incomplete: ${text}` })),
    charts.length ? make("div", { className: "charts", children: charts }) : null,
    found.metrics.length
      ? table(
          "Metrics",
          [
            { title: "Metric", cell: (each) => each.key },
            { title: "Last", cell: (each) => digits(each.last) },
            { title: "Lowest", cell: (each) => digits(each.minimum) },
            { title: "Highest", cell: (each) => digits(each.maximum) },
            { title: "Points", cell: (each) => number.format(each.total_points) },
          ],
          found.metrics,
        )
      : make("p", { className: "quiet", text: "This run has logged no metrics." }),
    pairs("Param", found.params),
    found.children.length
      ? table(
          "Children",
          [
            { title: "Child run", cell: (each) => link(each.name || each.run_id, `#/run/${each.run_id}`) },
            { title: "Status", cell: (each) => pill(each.status) },
            { title: "Duration", cell: (each) => duration(each.duration_seconds) },
          ],
          found.children,
        )
      : null,
  ].filter(Boolean);
}

export async function compared(parameters) {
  const ids = [parameters.run_id].flat().filter(Boolean);
  const [sides, details] = await Promise.all([
    get(address("runs/compare", { run_id: ids })),
    Promise.all(ids.map((id) => get(`runs/${encodeURIComponent(id)}?history=${POINTS}`))),
  ]);
  const names = details.map((each) => each.name || each.run_id);
  const keys = [
    ...new Set(
      details.flatMap((each) =>
        each.metrics.filter((metric) => metric.total_points > 1).map(({ key }) => key),
      ),
    ),
  ];
  const charts = keys.map((key) =>
    metricChart(
      key,
      details.flatMap((each, place) => {
        const metric = each.metrics.find((candidate) => candidate.key === key);
        return metric ? [[names[place], metric]] : [];
      }),
    ),
  );
  const head = (place) => link(names[place], `#/run/${ids[place]}`);
  const rows = (kind, listed, say) =>
    listed.map(({ key, values, differs }) => ({ kind, key, values: values.map(say), differs }));
  const all = [
    ...rows("metric", sides.metrics, digits),
    ...rows("param", sides.params, (value) => value ?? ""),
  ];
  const columns = [
    { title: "", cell: (row) => make("span", { text: row.key, title: row.kind }) },
    ...ids.map((_, place) => ({
      title: names[place],
      cell: (row) => make("span", { className: row.differs ? "warn" : "", text: row.values[place] }),
    })),
  ];
  return [
    make("h2", { text: "Compare runs" }),
    make("ul", {
      className: "figures",
      children: ids.map((_, place) => make("li", { children: [head(place)] })),
    }),
    charts.length ? make("div", { className: "charts", children: charts }) : null,
    all.length
      ? table("Comparison", columns, all)
      : make("p", { className: "quiet", text: "These runs have neither params nor metrics." }),
  ].filter(Boolean);
}

function metricChart(title, lines) {
  const xs = [...new Set(lines.flatMap(([, metric]) => metric.history.map(({ step }) => step)))].sort(
    (a, b) => a - b,
  );
  return chart(
    title,
    xs,
    lines.map(([label, metric]) => {
      const known = new Map(metric.history.map(({ step, value }) => [step, value]));
      return { label, values: xs.map((x) => known.get(x) ?? null) };
    }),
    { time: false, unit: "plain" },
  );
}

function pairs(title, object) {
  const rows = Object.entries(object);
  if (!rows.length) return null;
  return table(
    `${title}s`,
    [
      { title, cell: ([key]) => key },
      { title: "Value", cell: ([, value]) => value },
    ],
    rows,
  );
}
