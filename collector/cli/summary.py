"""The commands on what was done: `sidespan summary trace`, `run`, `runs`."""

import csv
import json
import sys
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from collector.cli import remote

summary = typer.Typer(help="What the agents did.", no_args_is_help=True)

Url = Annotated[str, typer.Option(help="Where Sidespan answers.", envvar="SIDESPAN_URL")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_URL = "http://127.0.0.1:4318"


@summary.command("trace")
def summary_trace(
    trace_id: Annotated[str, typer.Argument(help="32 hex digits, or MLflow's tr-…")],
    one_line: Annotated[bool, typer.Option("--one-line", help="Only the first line.")] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """One trace: its tree, tokens, cost, model and tool calls, errors."""
    from rich.console import Console

    from collector.cli.render_trace import one_line as line
    from collector.cli.render_trace import render_trace

    document = remote.get_json(url, f"/-/traces/{quote(trace_id, safe='')}")
    if as_json:
        typer.echo(json.dumps(document))
    elif one_line:
        typer.echo(line(document))
    else:
        render_trace(document, Console())


@summary.command("run")
def summary_run(
    run_ids: Annotated[list[str], typer.Argument(help="A run; several are compared.")],
    history: Annotated[str, typer.Option(help="Points a metric in --json may have; or `all`.")] = "0",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """One run: params, whole metrics, children, files, its traces; several: side by side."""
    from rich.console import Console

    from collector.cli.render_runs import render_comparison, render_run

    if len(run_ids) == 1:
        target = f"/-/runs/{quote(run_ids[0], safe='')}?history={quote(history)}"
        document = remote.get_json(url, target)
    else:
        query = urlencode([("run_id", id) for id in run_ids])
        document = remote.get_json(url, f"/-/runs/compare?{query}")
    if as_json:
        typer.echo(json.dumps(document))
    elif len(run_ids) == 1:
        render_run(document, Console())
    else:
        render_comparison(document, Console())


@summary.command("runs")
def summary_runs(
    experiment: Annotated[str, typer.Argument(help="The experiment: an id if only digits, else a name.")],
    filter_string: Annotated[str, typer.Option("--filter", help="MLflow's filter.")] = "",
    order_by: Annotated[str, typer.Option(help="As `metrics.loss ASC`.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at the most.")] = 50,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """The runs of an experiment with their latest metrics."""
    from rich.console import Console

    from collector.cli.render_runs import render_runs

    is_id = experiment.isascii() and experiment.isdigit()
    query = {"experiment_id" if is_id else "experiment_name": experiment, "limit": str(limit)}
    query |= {name: text for name, text in (("filter", filter_string), ("order_by", order_by)) if text}
    document = remote.get_json(url, f"/-/runs?{urlencode(query)}")
    if as_json:
        typer.echo(json.dumps(document))
    elif as_csv:
        _write_csv(document["runs"])
    else:
        render_runs(document["runs"], Console())


def _write_csv(runs: list[dict[str, Any]]) -> None:
    """A row a run; a column a param and a metric."""
    params = sorted({key for run in runs for key in run["params"]})
    metrics = sorted({metric["key"] for run in runs for metric in run["metrics"]})
    fixed = ("run_id", "name", "status", "start_unix_ns", "duration_seconds", "user")
    writer = csv.writer(sys.stdout)
    writer.writerow([*fixed, *(f"params.{key}" for key in params), *(f"metrics.{key}" for key in metrics)])
    for run in runs:
        last = {metric["key"]: metric["last"] for metric in run["metrics"]}
        writer.writerow(
            [
                *(run[name] for name in fixed),
                *(run["params"].get(key) for key in params),
                *(last.get(key) for key in metrics),
            ]
        )
