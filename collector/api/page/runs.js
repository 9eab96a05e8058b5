// @ts-check
// Runs of an experiment: the list, one run with its metrics by step, several compared.

import { Chart } from "./charts.js";
import { Empty, Figures, Moment, Pill, Select, Table } from "./components.js";
import { address, ask, compact, duration, get, messageOf, money, number, sentence } from "./parts.js";
import { html, useState } from "./view.js";

const SHOWN = 50;
const POINTS = 300;
const MAX_COMPARED = 20;
const MAX_METRIC_COLUMNS = 5;

const digits = (value) =>
  value === null || value === undefined
    ? ""
    : Number.isInteger(value)
      ? number.format(value)
      : String(Number(value.toPrecision(5)));
const named = (run) => run.name || run.run_id;
const status = (run) => html`<${Pill} status=${run.status} />`;

// ---- the list

async function experiments() {
  // MLflow's own list, through the proxy: the rights are the same
  const { status: code, body } = await ask("../ajax-api/2.0/mlflow/experiments/search", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ max_results: 1000, order_by: ["last_update_time DESC"] }),
  });
  if (code !== 200)
    throw new Error(sentence(`the experiments can't be listed: ${messageOf({ status: code, body })}`));
  return (body.experiments || []).map(({ experiment_id: id, name }) => [id, name]);
}

async function loadRuns({ parameters }) {
  const known = await experiments();
  const chosen = parameters.experiment_id || (known.length ? known[0][0] : null);
  if (!chosen) return { known, chosen, page: null };
  const { filter, page_token } = parameters;
  return {
    known,
    chosen,
    page: await get(address("runs", { experiment_id: chosen, filter, page_token, limit: SHOWN })),
  };
}

function ShowRuns({ data: { known, chosen, page }, parameters, go }) {
  if (!page)
    return html`<h2>Runs</h2>
      <${Empty} title="No experiments."><p class="quiet">MLflow has none that you may see.</p><//>`;
  const search = (event) => {
    event.preventDefault();
    go({ experiment_id: chosen, filter: event.target.elements.filter.value });
  };
  const next = page.next_page_token;
  return html`<h2>Runs</h2>
    <form class="bar" role="search" aria-label="Runs" onSubmit=${search}>
      <${Select}
        ...${{ id: "experiment", label: "Experiment", options: known, chosen }}
        onChange=${(experiment_id) => go({ experiment_id })}
      />
      <label class="long">
        <span>Filter (MLflow syntax)</span>
        <input
          id="run-filter"
          name="filter"
          value=${parameters.filter || ""}
          placeholder="metrics.loss < 1 and params.model = 'x'"
          spellcheck="false"
        />
      </label>
    </form>
    ${
      page.runs.length
        ? html`<${RunTable} runs=${page.runs} key=${chosen} />`
        : html`<${Empty} title="No runs match.">
            <p class="quiet">Log a run with mlflow.start_run(), or choose another experiment.</p>
          <//>`
    }
    ${
      next
        ? html`<p class="pages">
            <button
              type="button"
              class="plain"
              id="next-page"
              onClick=${() => go({ ...parameters, experiment_id: chosen, page_token: next })}
            >
              Next page
            </button>
          </p>`
        : null
    }`;
}

/** Runs to choose from, and the button that compares those that are chosen. */
function RunTable({ runs }) {
  const [marked, setMarked] = useState(/** @type {string[]} */ ([]));
  const mark = (id, on) => setMarked(on ? [...marked, id] : marked.filter((each) => each !== id));
  const keys = [...new Set(runs.flatMap((run) => run.metrics.map(({ key }) => key)))].slice(
    0,
    MAX_METRIC_COLUMNS,
  );
  const last = (run, key) => run.metrics.find((metric) => metric.key === key)?.last;
  const box = (run) =>
    html`<input
      type="checkbox"
      class="mark"
      value=${run.run_id}
      checked=${marked.includes(run.run_id)}
      aria-label="Compare ${named(run)}"
      onChange=${(event) => mark(run.run_id, event.target.checked)}
    />`;
  const columns = [
    { title: "Run", cell: (run) => html`${box(run)} <a href="#/run/${run.run_id}">${named(run)}</a>` },
    { title: "Status", words: true, cell: status },
    { title: "Started", words: true, cell: (run) => html`<${Moment} ns=${run.start_unix_ns} />` },
    { title: "Duration", cell: (run) => duration(run.duration_seconds) },
    ...keys.map((key) => ({ title: key, cell: (run) => digits(last(run, key)) })),
  ];
  const compare = () => {
    location.hash = `#/compare${address("", { run_id: marked })}`;
  };
  const few = marked.length < 2 || marked.length > MAX_COMPARED;
  return html`<p class="pages">
      <button type="button" class="plain" id="compare" disabled=${few} onClick=${compare}>
        ${marked.length < 2 ? "Compare" : `Compare ${marked.length}`}
      </button>
      <span class="quiet small">Select two runs or more.</span>
    </p>
    <${Table} label="Runs" columns=${columns} rows=${runs} keyOf=${(run) => run.run_id} />`;
}

export const runs = { title: "Runs", load: loadRuns, Show: ShowRuns };

// ---- one run

const loadRun = ({ id }) => get(`runs/${encodeURIComponent(id)}?history=${POINTS}`);

function ShowRun({ data: run, id }) {
  const { traces } = run;
  const into = (more) => `#/traces${address("", { run_id: id, since: "0", ...more })}`;
  const figures = [
    ["Status", status(run)],
    ["Started", html`<${Moment} ns=${run.start_unix_ns} />`],
    ["Duration", duration(run.duration_seconds)],
    ["User", run.user],
    ["Traces", traces ? html`<a href=${into({})}>${number.format(traces.count)}</a>` : ""],
    ["Cost of traces", traces ? money(traces.cost_usd) : ""],
    ["Tokens of traces", traces ? compact(traces.total_tokens) : ""],
    [
      "Errors in traces",
      traces && traces.count
        ? html`<a href=${into({ status: "ERROR" })}>${number.format(traces.errors)} failed</a>`
        : "",
    ],
    ["Trace p50", traces ? duration(traces.duration_p50_seconds) : ""],
    ["Trace p95", traces ? duration(traces.duration_p95_seconds) : ""],
  ];
  const charts = run.metrics.filter((metric) => metric.total_points > 1);
  const inMlflow = `../#/experiments/${encodeURIComponent(run.experiment_id)}/runs/${encodeURIComponent(id)}`;
  return html`<div class="title">
      <h2>${named(run)}</h2>
      <a href=${inMlflow}>Open in MLflow</a>
    </div>
    <${Figures} items=${figures} />
    ${run.incomplete.map((text) => html`<p class="notice">Incomplete: ${text}</p>`)}
    <div class="charts">
      ${charts.map(
        (metric) =>
          html`<${MetricChart} key=${metric.key} title=${metric.key} lines=${[[named(run), metric]]} />`,
      )}
    </div>
    ${
      run.metrics.length
        ? html`<${Table} label="Metrics" columns=${METRICS} rows=${run.metrics} />`
        : html`<p class="quiet">This run has logged no metrics.</p>`
    }
    <${Pairs} title="Param" object=${run.params} />
    ${run.children.length ? html`<${Table} label="Children" columns=${CHILDREN} rows=${run.children} />` : null}`;
}

const METRICS = [
  { title: "Metric", cell: (each) => each.key },
  { title: "Last", cell: (each) => digits(each.last) },
  { title: "Lowest", cell: (each) => digits(each.minimum) },
  { title: "Highest", cell: (each) => digits(each.maximum) },
  { title: "Points", cell: (each) => number.format(each.total_points) },
];
const CHILDREN = [
  { title: "Child run", cell: (each) => html`<a href="#/run/${each.run_id}">${named(each)}</a>` },
  { title: "Status", words: true, cell: status },
  { title: "Duration", cell: (each) => duration(each.duration_seconds) },
];

function Pairs({ title, object }) {
  const rows = Object.entries(object);
  if (!rows.length) return null;
  const columns = [
    { title, cell: ([key]) => key },
    { title: "Value", words: true, cell: ([, value]) => value },
  ];
  return html`<${Table} label="${title}s" columns=${columns} rows=${rows} />`;
}

/** A metric by step; `lines` are [label, metric with its history]. */
function MetricChart({ title, lines }) {
  const steps = lines.flatMap(([, metric]) => metric.history.map(({ step }) => step));
  const xs = [...new Set(steps)].sort((a, b) => a - b);
  const drawn = lines.map(([label, metric]) => {
    const known = new Map(metric.history.map(({ step, value }) => [step, value]));
    return { label, values: xs.map((x) => known.get(x) ?? null) };
  });
  return html`<${Chart} title=${title} xs=${xs} lines=${drawn} options=${{ time: false, unit: "plain" }} />`;
}

export const run = { title: "Run", load: loadRun, Show: ShowRun };

// ---- several

async function loadCompared({ parameters }) {
  const ids = [parameters.run_id].flat().filter(Boolean);
  const [sides, details] = await Promise.all([
    get(address("runs/compare", { run_id: ids })),
    Promise.all(ids.map((id) => loadRun({ id }))),
  ]);
  return { ids, sides, details };
}

function ShowCompared({ data: { ids, sides, details } }) {
  const keys = [
    ...new Set(
      details.flatMap(({ metrics }) =>
        metrics.filter(({ total_points: points }) => points > 1).map(({ key }) => key),
      ),
    ),
  ];
  const linesOf = (key) =>
    details.flatMap((each) =>
      each.metrics.filter((metric) => metric.key === key).map((metric) => [named(each), metric]),
    );
  const rows = (kind, listed, say) =>
    listed.map(({ key, values, differs }) => ({ kind, key, values: values.map(say), differs }));
  const own = (title, say) => ({
    key: title,
    kind: "",
    values: details.map(({ traces }) => (traces ? say(traces) : "")),
  });
  const ofTraces = [
    own("Traces", (traces) => number.format(traces.count)),
    own("Cost of traces", (traces) => money(traces.cost_usd)),
    own("Tokens of traces", (traces) => compact(traces.total_tokens)),
    own("Trace p50", (traces) => duration(traces.duration_p50_seconds)),
  ].map((row) => ({ ...row, differs: new Set(row.values).size > 1 }));
  const all = [
    ...rows("metric", sides.metrics, digits),
    ...rows("param", sides.params, (value) => value ?? ""),
    ...ofTraces.filter(({ values }) => values.some(Boolean)),
  ];
  const columns = [
    {
      title: "Of",
      words: true,
      cell: ({ key, kind }) => html`${key} ${kind && html`<span class="quiet small">${kind}</span>`}`,
    },
    ...ids.map((_, place) => ({
      title: named(details[place]),
      cell: (row) => html`<span class=${row.differs ? "differs" : ""}>${row.values[place]}</span>`,
    })),
  ];
  return html`<h2>Compare runs</h2>
    <ul class="figures">
      ${ids.map((id, place) => html`<li key=${id}><a href="#/run/${id}">${named(details[place])}</a></li>`)}
    </ul>
    <div class="charts">
      ${keys.map((key) => html`<${MetricChart} key=${key} title=${key} lines=${linesOf(key)} />`)}
    </div>
    ${
      all.length
        ? html`<${Table} label="Comparison" columns=${columns} rows=${all} />`
        : html`<p class="quiet">These runs have neither params nor metrics.</p>`
    }`;
}

export const comparedRuns = { title: "Compare runs", load: loadCompared, Show: ShowCompared };
