"""The commands on many traces at once: `sidespan summary traces`, `sessions`, `stats`."""

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
from collector.cli.filters import Query, with_filters
from collector.cli.follow import follow_traces
from collector.cli.options import DEFAULT_URL, AsCsv, AsJson, Url
from collector.cli.summary import summary
from collector.model.errors import Misconfigured

__all__ = ["summary"]
WATCH_SECONDS = 2.0

Sort = Annotated[
    str | None, typer.Option(help="Sort key, such as duration; -duration puts the largest first.")
]
Limit = Annotated[int, typer.Option(min=1, max=1_000_000, help="Maximum number of rows.")]
Watch = Annotated[bool, typer.Option("--watch", help="Refresh every two seconds until Ctrl-C.")]


@summary.command("traces")
@with_filters
def summary_traces(
    *,
    filters: Query,
    sort: Sort = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    watch: Watch = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print each trace that gets spans, as they come, until Ctrl-C.")
    ] = False,
) -> None:
    """List traces, newest first."""
    from collector.cli.render_tables import traces_table

    if follow:
        if sort or watch or as_csv:
            raise Misconfigured("--follow: can't be combined with --sort, --watch or --csv")
        follow_traces(url, filters, as_json=as_json)
        return
    query = filters | _paging(sort, limit)
    _show("/-/traces", query, traces_table, url=url, as_json=as_json, as_csv=as_csv, watch=watch)


@summary.command("sessions")
@with_filters
def summary_sessions(
    *,
    filters: Query,
    sort: Sort = None,
    limit: Limit = 50,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    watch: Watch = False,
) -> None:
    """List sessions, most recently active first."""
    from collector.cli.render_tables import sessions_table

    query = filters | _paging(sort, limit)
    _show("/-/sessions", query, sessions_table, url=url, as_json=as_json, as_csv=as_csv, watch=watch)


@summary.command("stats")
@with_filters
def summary_stats(
    by: Annotated[list[str] | None, typer.Argument(help="Group by these: model, tool, agent, …")] = None,
    *,
    of: Annotated[
        str, typer.Option(help="What to measure: traces, spans, models, tools, errors or sessions.")
    ] = "traces",
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric, such as duration_seconds_p95; repeatable.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of groups.")] = 20,
    filters: Query,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
    watch: Watch = False,
) -> None:
    """Show metrics, in total and by group."""
    from collector.cli.render_tables import stats_table

    query = filters | {"of": [of], "top": [str(top)]}
    query |= {name: values for name, values in (("by", by), ("metric", metric)) if values}
    _show("/-/traces/stats", query, stats_table, url=url, as_json=as_json, as_csv=False, watch=watch)


def _paging(sort: str | None, limit: int) -> Query:
    return {"limit": [str(limit)]} | ({"sort": [sort]} if sort else {})


def _show(
    path: str,
    query: Query,
    draw: Callable[[dict[str, Any], int], RenderableType],
    *,
    url: str,
    as_json: bool,
    as_csv: bool,
    watch: bool,
) -> None:
    if watch and (as_json or as_csv):
        raise Misconfigured("--watch: can't be combined with --json or --csv")
    if as_csv:
        sys.stdout.buffer.write(remote.get(url, _target(path, query | {"format": ["csv"]})))
        return
    target, console = _target(path, query), Console()
    if as_json:
        typer.echo(json.dumps(remote.get_json(url, target)))
    elif watch:
        _watch(lambda: draw(remote.get_json(url, target), console.width))
    else:
        console.print(draw(remote.get_json(url, target), console.width))


def _target(path: str, query: Query) -> str:
    return f"{path}?{urlencode(query, doseq=True)}"


def _watch(draw: Callable[[], RenderableType]) -> None:
    from rich.live import Live

    def pictures() -> Iterator[RenderableType]:
        while True:
            yield draw()
            time.sleep(WATCH_SECONDS)

    with suppress(KeyboardInterrupt), Live(auto_refresh=False) as live:
        for picture in pictures():
            live.update(picture, refresh=True)
