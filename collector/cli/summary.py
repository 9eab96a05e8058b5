"""The commands on one trace and on runs: `sidespan summary trace`, `run`, `runs`."""

import csv
import json
import sys
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from collector.cli import remote
from collector.cli.options import DEFAULT_URL, AsCsv, AsJson, Url, experiment_parameter

summary = typer.Typer(help="Query traces, sessions and runs.", no_args_is_help=True)


@summary.command("trace")
def summary_trace(
    trace_id: Annotated[str, typer.Argument(help="Trace id: 32 hex digits, with or without tr-.")],
    one_line: Annotated[bool, typer.Option("--one-line", help="Print one line only.")] = False,
    conversation: Annotated[
        bool, typer.Option("--conversation", help="Show what was said: messages and tool calls.")
    ] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show one trace: span tree, tokens, cost and errors."""
    from rich.console import Console

    from collector.cli.render_trace import one_line as line
    from collector.cli.render_trace import render_trace

    path = f"/-/traces/{quote(trace_id, safe='')}"
    if conversation:
        _show_conversation(url, path, as_json=as_json)
        return
    document = remote.get_json(url, path)
    if as_json:
        typer.echo(json.dumps(document))
    elif one_line:
        typer.echo(line(document))
    else:
        render_trace(document, Console())


def _show_conversation(url: str, path: str, *, as_json: bool) -> None:
    from rich.console import Console

    from collector.cli.render_conversation import render_conversation

    document = remote.get_json(url, f"{path}/conversation")
    messages = document["messages"]
    while messages and len(messages) < document["message_count"]:
        page = remote.get_json(url, f"{path}/conversation?from_message={len(messages)}")
        if not page["messages"]:  # it has changed meanwhile
            break
        messages += page["messages"]
    if as_json:
        typer.echo(json.dumps(document))
    else:
        render_conversation(messages, Console())


@summary.command("run")
def summary_run(
    run_ids: Annotated[list[str], typer.Argument(help="Run id; two or more are compared.")],
    history: Annotated[str, typer.Option(help="With --json: history points per metric, or `all`.")] = "0",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show one run, or compare several.

    One run has its params, metrics, child runs, files and traces; several stand side by side.
    """
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
    experiment: Annotated[str, typer.Argument(help="Experiment: an id (digits only) or a name.")],
    filter_string: Annotated[str, typer.Option("--filter", help="Filter in MLflow's syntax.")] = "",
    order_by: Annotated[str, typer.Option(help="Sort key, such as `metrics.loss ASC`.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of runs.")] = 50,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """List an experiment's runs with their latest metrics."""
    from rich.console import Console

    from collector.cli.render_runs import render_runs

    query = experiment_parameter(experiment) | {"limit": str(limit)}
    query |= {name: text for name, text in (("filter", filter_string), ("order_by", order_by)) if text}
    document = remote.get_json(url, f"/-/runs?{urlencode(query)}")
    if as_json:
        typer.echo(json.dumps(document))
    elif as_csv:
        _write_csv(document["runs"])
    else:
        render_runs(document["runs"], Console())


def _write_csv(runs: list[dict[str, Any]]) -> None:
    """One row per run, with a column for each param and each metric."""
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
