// @ts-check
// The command palette: views, saved views, and traces, sessions, runs and errors by what they are called.

import { address, ago, ask } from "./parts.js";
import { forgetView, savedViews } from "./saved.js";
import { html, render, useEffect, useRef, useState } from "./view.js";

const VIEWS = [
  ["Overview", "#/"],
  ["Traces", "#/traces"],
  ["Sessions", "#/sessions"],
  ["Errors", "#/errors"],
  ["Tools", "#/tools"],
  ["Models", "#/models"],
  ["Runs", "#/runs"],
  ["Compare", "#/compare"],
  ["Alerts", "#/alerts"],
  ["Service", "#/health"],
  ["Failed traces of the last hour", "#/traces?since=-1h&status=ERROR"],
  ["Most expensive traces of the last day", "#/traces?since=-24h&sort=-cost"],
  ["Slowest traces of the last day", "#/traces?since=-24h&sort=-duration"],
];
const FOUND = 6;
const EXPERIMENTS = 20;
const KNOWN_MILLISECONDS = 60000;
const PAUSE_MILLISECONDS = 150;
const TRACE_ID = /^(tr-)?[0-9a-f]{32}$/i;

/**
 * A row: what kind it is of, what it is called, where it leads; `more` tells it from others that are called the
 * same, `forget` takes a saved one away.
 */
const item = (kind, text, href, { more = "", forget = "" } = {}) => ({ kind, text, href, more, forget });

/** What fits the words without asking the service. */
export function known(words, saved) {
  const text = words.trim().toLowerCase();
  const fits = (name) => text.split(/\s+/).every((word) => name.toLowerCase().includes(word));
  const views = VIEWS.filter(([name]) => fits(name)).map(([name, href]) => item("view", name, href));
  const own = saved
    .filter(({ name }) => fits(name))
    .map(({ name, hash }) => item("saved", name, hash, { forget: name }));
  const trace = TRACE_ID.test(words.trim()) ? [item("trace", words.trim(), `#/trace/${words.trim()}`)] : [];
  return [...trace, ...own, ...views];
}

/** What the service has by names that begin like this. */
async function asked(words) {
  const text = words.trim();
  const rows = async (path, read) => {
    const { status, body } = await ask(path).catch(() => ({ status: 0, body: null }));
    return status === 200 && body ? read(body) : [];
  };
  if (!text) return [];
  if (TRACE_ID.test(text))
    // a run's id looks the same
    return rows(`runs/${text}`, (run) => [item("run", run.name || run.run_id, `#/run/${run.run_id}`)]);
  const filters = { since: "-30d", limit: FOUND };
  const found = await Promise.all([
    runsCalled(text, rows),
    rows(address("traces", { ...filters, name: `${text}*` }), ({ traces }) =>
      traces.map((each) =>
        item("trace", each.name, `#/trace/${each.trace_id}`, { more: ago(each.start_unix_ns) }),
      ),
    ),
    rows(address("sessions", { ...filters, session: `${text}*` }), ({ sessions }) =>
      sessions.map((each) => item("session", each.session, `#/session/${encodeURIComponent(each.session)}`)),
    ),
  ]);
  return found.flat();
}

/** @type {{at: number, ids: Promise<string[]> | null}} */
const experiments = { at: 0, ids: null };

/** Where the client's runs may be: the experiments that MLflow changed last. */
function lastExperiments() {
  if (!experiments.ids || Date.now() - experiments.at > KNOWN_MILLISECONDS) {
    experiments.at = Date.now();
    const body = JSON.stringify({ max_results: EXPERIMENTS, order_by: ["last_update_time DESC"] });
    const headers = { "Content-Type": "application/json" };
    experiments.ids = ask("../ajax-api/2.0/mlflow/experiments/search", { method: "POST", headers, body })
      .then((answer) =>
        ((answer.status === 200 && answer.body.experiments) || []).map((each) => each.experiment_id),
      )
      .catch(() => []);
  }
  return experiments.ids;
}

/** A text in MLflow's filters that stands anywhere in a name; quotes and wildcards can't be escaped there. */
export const runFilter = (text) => `attributes.run_name ILIKE '%${text.replace(/['"`%_\\]/g, "_")}%'`;

async function runsCalled(text, rows) {
  const ids = await lastExperiments();
  if (!ids.length) return [];
  const path = address("runs", { experiment_id: ids, filter: runFilter(text), limit: FOUND });
  return rows(path, ({ runs }) =>
    runs.map((run) =>
      item("run", run.name || run.run_id, `#/run/${run.run_id}`, { more: ago(run.start_unix_ns) }),
    ),
  );
}

function Palette({ close }) {
  const [words, setWords] = useState("");
  const [found, setFound] = useState(/** @type {any[]} */ ([]));
  const [chosen, setChosen] = useState(0);
  const [saved, setSaved] = useState(savedViews());
  const list = useRef(/** @type {any} */ (null));
  useEffect(() => {
    let wanted = true;
    const waiting = setTimeout(async () => {
      const rows = await asked(words);
      if (wanted) setFound(rows);
    }, PAUSE_MILLISECONDS);
    return () => {
      wanted = false;
      clearTimeout(waiting);
    };
  }, [words]);
  const rows = [...known(words, saved), ...found];
  const place = Math.min(chosen, Math.max(0, rows.length - 1));
  useEffect(() => list.current?.children[place]?.scrollIntoView({ block: "nearest" }), [place]);
  const open = (row) => {
    if (!row) return;
    location.hash = row.href;
    close();
  };
  const forget = (row) => {
    forgetView(row.forget);
    setSaved(savedViews());
  };
  const press = (event) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) setChosen((rows.length + place + move) % Math.max(1, rows.length));
    else if (event.key === "Enter") open(rows[place]);
    else if (event.key === "Delete" && event.shiftKey && rows[place]?.forget) forget(rows[place]);
    else return;
    event.preventDefault();
  };
  return html`<input
      id="palette-words"
      type="text"
      role="combobox"
      aria-expanded="true"
      aria-controls="palette-rows"
      aria-activedescendant=${rows.length ? `palette-${place}` : undefined}
      aria-label="Search views, traces, sessions and runs"
      placeholder="A view, an id, or a name"
      autocomplete="off"
      spellcheck="false"
      value=${words}
      onInput=${(event) => {
        setWords(event.target.value);
        setChosen(0);
      }}
      onKeyDown=${press}
    />
    <ul id="palette-rows" role="listbox" aria-label="Found" ref=${list}>
      ${rows.map(
        (row, number) =>
          html`<li
            key=${`${row.kind} ${row.href} ${number}`}
            id="palette-${number}"
            role="option"
            aria-selected=${number === place ? "true" : "false"}
            onClick=${() => open(row)}
            onMouseMove=${() => setChosen(number)}
          >
            <span class="kind">${row.kind}</span> <span class="said">${row.text}</span>
            ${row.more && html`<span class="quiet small more">${row.more}</span>`}
          </li>`,
      )}
    </ul>
    <p class="quiet small">
      ${rows.length ? "Enter opens, Esc closes. Shift+Delete forgets a saved view." : "Nothing is called like this."}
    </p>`;
}

/** Open the palette in its dialog. */
export function openPalette() {
  const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("palette"));
  if (dialog.open) return;
  const place = /** @type {Element} */ (dialog.firstElementChild);
  render(null, place);
  render(html`<${Palette} close=${() => dialog.close()} />`, place);
  dialog.showModal();
  document.getElementById("palette-words")?.focus();
}
