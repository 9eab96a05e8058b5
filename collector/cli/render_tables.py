"""Renders tables of traces, sessions and metrics for a terminal. Texts from outside pass `printable`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from collector.cli.render_trace import STATUS_STYLES, duration, money, printable, scores_text

Json = Mapping[str, Any]


# title, minimum width of the terminal, right-justified, the text of a cell
Cell = Callable[[Json], str | Text]
Columns = Sequence[tuple[str, int, bool, Cell]]
TRACES: Columns = (
    ("trace", 0, False, lambda row: row["trace_id"]),
    ("started", 90, False, lambda row: _time(row["start_unix_ns"])),
    ("name", 0, False, lambda row: printable(row["name"])),
    ("status", 0, False, lambda row: Text(row["status"], style=STATUS_STYLES.get(row["status"], ""))),
    ("duration", 0, True, lambda row: duration(row["duration_seconds"])),
    ("spans", 110, True, lambda row: str(row["span_count"])),
    ("tokens", 110, True, lambda row: _whole(row["total_tokens"])),
    ("cost", 0, True, lambda row: _money(row)),
    ("agent", 130, False, lambda row: printable(row["agent"] or "")),
    ("models", 130, False, lambda row: printable(", ".join(row["models"]))),
    ("scores", 100, False, lambda row: scores_text(row["scores"])),
    ("error", 150, False, lambda row: printable(row["error_message"] or row["error_type"] or "")),
)
SESSIONS: Columns = (
    ("session", 0, False, lambda row: printable(row["session"])),
    ("user", 100, False, lambda row: printable(row["user"] or "")),
    ("last active", 90, False, lambda row: _time(row["end_unix_ns"])),
    ("turns", 0, True, lambda row: str(row["turns"])),
    ("errors", 0, True, lambda row: str(row["errors"] or "")),
    ("busy", 0, True, lambda row: duration(row["busy_seconds"])),
    ("tokens", 100, True, lambda row: _whole(row["total_tokens"])),
    ("cost", 0, True, lambda row: _money(row)),
    ("scores", 110, True, lambda row: str(row["scores"] or "")),
    ("agents", 120, False, lambda row: printable(", ".join(row["agents"]))),
)


def traces_table(answer: Json, width: int) -> RenderableType:
    """One row per trace, with the columns that fit a terminal of this width."""
    rows = answer["traces"]
    if not rows:
        return Text("No traces match. `sidespan index status` shows what the index holds.")
    return _rows(TRACES, rows, answer, width)


def sessions_table(answer: Json, width: int) -> RenderableType:
    """One row per session."""
    rows = answer["sessions"]
    if not rows:
        return Text("No sessions match. The attribute session.id assigns a trace to a session.")
    return _rows(SESSIONS, rows, answer, width)


def _rows(columns: Columns, rows: Sequence[Json], answer: Json, width: int) -> Table:
    shown = [each for each in columns if each[1] <= width]
    table = Table(*(Column(title, justify="right" if right else "left") for title, _, right, _ in shown))
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*(cell(row) for *_, cell in shown))
    if answer["next_cursor"]:
        table.caption = "More rows match: raise --limit, or use --csv to get them all."
    return table


def stats_table(answer: Json, width: int) -> RenderableType:
    """One row per group, and one for the total."""
    metrics = answer["metrics"]
    table = Table(*map(printable, answer["by"]), *(Column(_title(name), justify="right") for name in metrics))
    for group in answer["groups"]:
        key = [printable("-" if value is None else str(value)) for value in group["key"].values()]
        table.add_row(*key, *(_value(name, group["values"][name]) for name in metrics))
    if answer["groups"]:
        table.add_section()
    first = ["total", *[""] * (len(answer["by"]) - 1)] if answer["by"] else []
    table.add_row(*first, *(_value(name, answer["total"][name]) for name in metrics))
    if answer["more_groups"]:
        table.caption = "More groups match: raise --top."
    return table


def index_table(answer: Json, width: int) -> RenderableType:
    """One row per experiment."""
    numbers = ("traces", "spans", "scores")
    table = Table("experiment", "name", *(Column(name, justify="right") for name in numbers), "first", "last")
    for row in answer["experiments"]:
        table.add_row(
            row["id"] or "?",
            printable(row["name"] or ""),
            *(f"{row[name]:,}" for name in numbers),
            _time(row["first_unix_ns"]),
            _time(row["last_unix_ns"]),
        )
    table.caption = f"{answer['size_bytes'] / 1e6:,.1f} MB"
    return table


def verify_table(answer: Json) -> RenderableType:
    """The counts of the index beside MLflow's."""
    table = Table(
        "experiment",
        "name",
        "what",
        *(Column(n, justify="right") for n in ("index", "MLflow", "archived", "±")),
    )
    for row in answer["experiments"]:
        for what in ("traces", "spans", "scores"):
            counts = row[what]
            more = counts["difference"]
            table.add_row(
                row["experiment_id"],
                printable(row["experiment_name"] or ""),
                what,
                f"{counts['index']:,}",
                f"{counts['mlflow']:,}",
                f"{counts['archived']:,}",
                Text(f"{more:+,}" if more else "same", style="yellow" if more else "green"),
            )
        for what, count in row["labels"]["different"].items():
            same = row["labels"]["compared"] - count
            differs = Text(f"{count:,} differ" if count else "same", style="yellow" if count else "green")
            of = (row["experiment_id"], printable(row["experiment_name"] or ""))
            compared = f"{row['labels']['compared']:,}"
            table.add_row(*of, f"{what} of traces", f"{same:,}", compared, "", differs)
    return table


def verify_examples(answer: Json) -> list[str]:
    """A line for each of the first differences in a session, a user or tags."""
    return [
        f"{each['trace_id']}  {each['what']}: {printable(each['index'] or 'none')} in the index,"
        f" {printable(each['mlflow'] or 'none')} in MLflow"
        for row in answer["experiments"]
        for each in row["labels"]["examples"]
    ]


def _time(unix_ns: int | None) -> str:
    try:
        return "" if not unix_ns else datetime.fromtimestamp(unix_ns / 1e9).strftime("%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(unix_ns)


def _whole(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _money(row: Json) -> str:
    if row["cost_usd"] is None:
        return ""
    return ("≥ " if row.get("unpriced_model_calls") else "") + money(row["cost_usd"])


def _title(metric: str) -> str:
    return metric.replace("duration_seconds", "duration").replace("_seconds", "").replace("_", " ")


def _value(metric: str, value: float | None) -> str:
    """A number in the unit that the metric's name gives."""
    if value is None:
        return "-"
    if "_seconds" in metric and not metric.endswith("_per_second"):
        return duration(value)
    if metric.endswith("_usd"):
        return money(value)
    if metric.endswith(("_rate", "_share")):
        return f"{value:.1%}"
    if metric.startswith("score_"):
        return f"{value:,.3g}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"
