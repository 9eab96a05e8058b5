"""The commands on many traces at once: `sidespan summary traces`, `sessions`, `stats`; `sidespan index …`."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from rich.console import Console, RenderableType

from collector.cli import remote
from collector.cli.summary import DEFAULT_URL, AsJson, Url, summary
from collector.mlflow.rest import EXPERIMENT_BY_NAME
from collector.model.errors import Misconfigured
from collector.model.parameters import BadParameter

index = typer.Typer(help="What the summaries are answered from.", no_args_is_help=True)

Experiment = Annotated[str | None, typer.Option(help="Id if only digits, else a name.")]
Since = Annotated[str | None, typer.Option(help="-1h, -7d, ISO 8601, or a time since 1970.")]
Until = Annotated[str | None, typer.Option(help="As --since.")]
Status = Annotated[str | None, typer.Option(help="OK, ERROR or UNKNOWN.")]
Service = Annotated[str | None, typer.Option(help="As every text, it may end in *.")]
Agent = Annotated[str | None, typer.Option()]
Model = Annotated[str | None, typer.Option()]
Tool = Annotated[str | None, typer.Option()]
Session = Annotated[str | None, typer.Option()]
User = Annotated[str | None, typer.Option()]
WhereMore = Annotated[
    list[str] | None,
    typer.Option("--where", help="Any filter of the API as name=value, as min_cost_usd=0.1; repeatable."),
]
Sort = Annotated[str | None, typer.Option(help="As -duration; - is the largest first.")]
Limit = Annotated[int, typer.Option(min=1, max=1_000_000, help="How many at the most.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Watch = Annotated[bool, typer.Option("--watch", help="Ask again every two seconds, until Ctrl-C.")]
WATCH_SECONDS = 2.0


@summary.command("traces")
def summary_traces(
    experiment: Experiment = None,
    since: Since = None,
    until: Until = None,
    status: Status = None,
    service: Service = None,
    agent: Agent = None,
    model: Model = None,
    tool: Tool = None,
    session: Session = None,
    user: User = None,
    where: WhereMore = None,
    sort: Sort = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    watch: Watch = False,
) -> None:
    """Rows of traces, the newest first."""
    from collector.cli.render_tables import traces_table

    filters = _filters(locals(), where)
    _show("/-/traces", filters | _table(sort, limit), traces_table, url, as_json, as_csv, watch)


@summary.command("sessions")
def summary_sessions(
    experiment: Experiment = None,
    since: Since = None,
    until: Until = None,
    status: Status = None,
    service: Service = None,
    agent: Agent = None,
    model: Model = None,
    tool: Tool = None,
    session: Session = None,
    user: User = None,
    where: WhereMore = None,
    sort: Sort = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    watch: Watch = False,
) -> None:
    """Rows of conversations, the last active first."""
    from collector.cli.render_tables import sessions_table

    filters = _filters(locals(), where)
    _show("/-/sessions", filters | _table(sort, limit), sessions_table, url, as_json, as_csv, watch)


@summary.command("stats")
def summary_stats(
    by: Annotated[
        list[str] | None, typer.Argument(help="What sets groups apart: model, tool, agent, …")
    ] = None,
    of: Annotated[str, typer.Option(help="traces, spans, models, tools, errors or sessions.")] = "traces",
    metric: Annotated[list[str] | None, typer.Option(help="As duration_seconds_p95; repeatable.")] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many groups.")] = 20,
    experiment: Experiment = None,
    since: Since = None,
    until: Until = None,
    status: Status = None,
    service: Service = None,
    agent: Agent = None,
    model: Model = None,
    tool: Tool = None,
    session: Session = None,
    user: User = None,
    where: WhereMore = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
    watch: Watch = False,
) -> None:
    """Numbers: in all, and by what you name."""
    from collector.cli.render_tables import stats_table

    filters = _filters(locals(), where) | {"of": [of], "top": [str(top)]}
    filters |= {name: values for name, values in (("by", by), ("metric", metric)) if values}
    _show("/-/traces/stats", filters, stats_table, url, as_json, False, watch)


@index.command("status")
def index_status(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """What the index holds, by experiment."""
    from collector.cli.render_tables import index_table

    _show("/-/index", {}, index_table, url, as_json, False, False)


@index.command("backfill")
def index_backfill(
    experiment: Annotated[str, typer.Option(help="Id if only digits, else a name.")],
    since: Annotated[str | None, typer.Option(help="-30d, ISO 8601, or a time since 1970.")] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="From the beginning, not where it stopped.")
    ] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Read in what MLflow holds of an experiment; stopped, the next call goes on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from collector.index.queries.asked import moment

    try:
        since_ns = 0 if since is None else moment(since, "since", time.time_ns())
    except BadParameter as error:
        raise Misconfigured(f"--since {since!r} {error}") from error
    asked: dict[str, Any] = _experiment(experiment) | {"since_unix_ms": since_ns // 1_000_000}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("traces", total=None)
        while True:
            answer = remote.post_json(
                url, "/-/index/backfill", asked | ({"restart": True} if restart else {}), timeout_seconds=600
            )
            restart = False
            progress.update(task, total=max(answer["total"], answer["seen"]), completed=answer["seen"])
            if answer["done"]:
                break
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.echo(
            f"{answer['traces']} traces with {answer['spans']} spans of experiment "
            f"{answer['experiment_name']} are in the index"
        )


@index.command("verify")
def index_verify(
    experiment: Annotated[list[str] | None, typer.Option(help="Only this one; repeatable.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Compare the index's counts with MLflow's; exit 1 where they differ."""
    from collector.cli.render_tables import verify_table

    ids = [_experiment_id(each, url) for each in experiment or ()]
    query = urlencode({"experiment_id": ids}, doseq=True)
    answer = remote.get_json(url, f"/-/index/verify?{query}", timeout_seconds=600)
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        Console().print(verify_table(answer))
    rows = answer["experiments"]
    if any(row[what]["difference"] for row in rows for what in ("traces", "spans")):
        raise typer.Exit(1)


@index.command("rebuild")
def index_rebuild(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Read again what the journal still holds."""
    answer = remote.post_json(url, "/-/index/rebuild", {})
    typer.echo(json.dumps(answer) if as_json else f"{answer['replayed']} entries are read again")


def _experiment(text: str) -> dict[str, str]:
    return {"experiment_id" if text.isascii() and text.isdigit() else "experiment_name": text}


def _experiment_id(text: str, url: str) -> str:
    if text.isascii() and text.isdigit():
        return text
    query = urlencode({"experiment_name": text})
    found = remote.get_json(url, f"{EXPERIMENT_BY_NAME}?{query}")
    return str(found["experiment"]["experiment_id"])


NAMED = ("since", "until", "status", "service", "agent", "model", "tool", "session", "user")


def _filters(given: dict[str, Any], where: list[str] | None) -> dict[str, list[str]]:
    """The filters as the API takes them. Raises Misconfigured."""
    filters = {name: [given[name]] for name in NAMED if given[name] is not None}
    if given["experiment"] is not None:
        filters |= {name: [value] for name, value in _experiment(given["experiment"]).items()}
    for each in where or ():
        name, sign, value = each.partition("=")
        if not sign:
            raise Misconfigured(f"--where {each!r}: must be name=value, as min_duration_seconds=2")
        filters.setdefault(name, []).append(value)
    return filters


def _table(sort: str | None, limit: int) -> dict[str, list[str]]:
    return {"limit": [str(limit)]} | ({"sort": [sort]} if sort else {})


def _show(
    path: str,
    query: dict[str, list[str]],
    draw: Callable[[dict[str, Any], int], RenderableType],
    url: str,
    as_json: bool,
    as_csv: bool,
    watch: bool,
) -> None:
    if watch and (as_json or as_csv):
        raise Misconfigured("--watch: draws a table; it goes with neither --json nor --csv")
    if as_csv:
        sys.stdout.buffer.write(
            remote.get(url, f"{path}?{urlencode(query | {'format': ['csv']}, doseq=True)}")
        )
        return
    target, console = f"{path}?{urlencode(query, doseq=True)}", Console()
    if as_json:
        typer.echo(json.dumps(remote.get_json(url, target)))
    elif watch:
        _watch(lambda: draw(remote.get_json(url, target), console.width))
    else:
        console.print(draw(remote.get_json(url, target), console.width))


def _watch(draw: Callable[[], RenderableType]) -> None:
    from rich.live import Live

    def pictures() -> Iterator[RenderableType]:
        while True:
            yield draw()
            time.sleep(WATCH_SECONDS)

    with suppress(KeyboardInterrupt), Live(auto_refresh=False) as live:
        for picture in pictures():
            live.update(picture, refresh=True)
