"""Renders runs for a terminal. Control characters in the data are replaced, never sent to the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from collector.cli.render_trace import duration, money, printable

Json = Mapping[str, Any]
MAX_ROWS = 40
FIXED_WIDTH = 75
METRIC_WIDTH = 12
STATUS_STYLE = {"FINISHED": "green", "FAILED": "red", "KILLED": "red", "RUNNING": "yellow"}


def render_runs(runs: Sequence[Json], console: Console) -> None:
    """Print a table with one row per run."""
    if not runs:
        console.print("No runs: log one with mlflow.start_run(), or change --filter.")
        return
    room = max(0, (console.width - FIXED_WIDTH) // METRIC_WIDTH)
    keys = list(dict.fromkeys(metric["key"] for run in runs for metric in run["metrics"]))
    shown = keys[:room]
    table = Table(Column("run", no_wrap=True), "name", "status", "duration", *map(printable, shown))
    for run in runs:
        last = {metric["key"]: metric["last"] for metric in run["metrics"]}
        table.add_row(
            run["run_id"],
            printable(run["name"] or ""),
            _status(run["status"]),
            _duration(run["duration_seconds"]),
            *(_number(last.get(key)) for key in shown),
        )
    console.print(table)
    if len(keys) > len(shown):
        console.print(f"and {len(keys) - len(shown)} more metrics: use --csv or --json to see them all")


def render_run(run: Json, console: Console) -> None:
    """Print everything about one run."""
    head = Text.assemble(printable(run["name"] or run["run_id"]), "  ", _status(run["status"]))
    head.append(f"  {_duration(run['duration_seconds'])}  experiment {run['experiment_id']}  {run['run_id']}")
    console.print(head)
    if run["params"]:
        _pairs("param", run["params"], console)
    if run["metrics"]:
        table = Table("metric", "last", "lowest", "highest", "step", "points")
        for metric in run["metrics"][:MAX_ROWS]:
            table.add_row(
                printable(metric["key"]),
                _number(metric["last"]),
                _number(metric["minimum"]),
                _number(metric["maximum"]),
                str(metric["last_step"]),
                f"{metric['total_points']}{'+' if metric['truncated'] else ''}",
            )
        console.print(table)
    for line in _lines(run):
        console.print(Text(line))


def render_comparison(document: Json, console: Console) -> None:
    """Print what differs between runs, side by side."""
    names = [printable(run["name"] or run["run_id"][:12]) for run in document["runs"]]
    for title in ("params", "metrics", "tags"):
        differing = [row for row in document[title] if row["differs"]]
        same = len(document[title]) - len(differing)
        if not differing:
            continue
        table = Table(title, *names, *(("change",) if title == "metrics" else ()))
        for row in differing[:MAX_ROWS]:
            change = "" if row["change"] is None else f"{row['change']:+.1%}"
            cells = [_number(v) if title == "metrics" else printable(str(v or "")) for v in row["values"]]
            table.add_row(printable(row["key"]), *cells, *((change,) if title == "metrics" else ()))
        console.print(table)
        if same:
            console.print(f"{same} more {title} are the same")


def _lines(run: Json) -> list[str]:
    traces = run["traces"]
    lines = []
    if traces and traces["count"]:
        more = "+" if traces["truncated"] else ""
        lines.append(
            f"{traces['count']}{more} traces, {traces['errors']} errors, p50 "
            f"{_duration(traces['duration_p50_seconds'])}, p95 {_duration(traces['duration_p95_seconds'])}, "
            f"{traces['total_tokens'] or 0} tokens"
            + (f", {money(traces['cost_usd'])}" if traces["cost_usd"] is not None else "")
        )
    lines += [
        f"dataset {printable(each['name'])} ({printable(each['context'] or '')})" for each in run["datasets"]
    ]
    lines += [
        f"child {printable(each['name'] or '')} {each['status']} {each['run_id']}" for each in run["children"]
    ]
    files = [each for each in run["artifacts"] or () if not each["is_folder"]]
    lines += [f"file {printable(each['path'])} {each['size_bytes']} bytes" for each in files[:MAX_ROWS]]
    if run["artifacts_truncated"] or len(files) > MAX_ROWS:
        lines.append("and more files")
    return lines + [f"incomplete: {printable(text)}" for text in run["incomplete"]]


def _pairs(title: str, pairs: Mapping[str, str], console: Console) -> None:
    table = Table(title, "value")
    for key, value in list(pairs.items())[:MAX_ROWS]:
        table.add_row(printable(key), printable(value))
    console.print(table)
    if len(pairs) > MAX_ROWS:
        console.print(f"and {len(pairs) - MAX_ROWS} more")


def _status(text: str) -> Text:
    return Text(printable(text), style=STATUS_STYLE.get(text, ""))


def _number(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)
