"""Rows of traces, of sessions, and of errors: with filters, order and pages. Pure.

A page ends with a cursor: what the last row was sorted by, and its id. The next page begins right behind it,
whatever has come in between.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.index.queries.asked import Asked
from collector.index.queries.filters import SPAN_FILTERS, TRACE_FILTERS, Values, Where, of_spans, of_traces
from collector.index.queries.stats import TOKENS
from collector.model.parameters import BadParameter

MAX_LIMIT = 1000
# an export is streamed from a file
MAX_EXPORT = 1_000_000
FORMATS = ("json", "csv", "parquet")


def _id(column: str) -> str:
    return f"replace({column}::VARCHAR, '-', '')"


def _list(column: str) -> str:
    return f"coalesce(list_filter(string_split({column}, chr(31)), lambda each: each <> ''), [])"


def _different(column: str) -> str:
    return f"coalesce(list_sort(list(DISTINCT {column}) FILTER ({column} IS NOT NULL))[:20], [])"


# column of the answer -> SQL over `traces t LEFT JOIN experiments e`
TRACE_ROW: Mapping[str, str] = {
    "trace_id": _id("t.trace_id"),
    "name": "t.name",
    "start_unix_ns": "t.start_unix_ns",
    "duration_seconds": "t.duration_ns / 1e9",
    "status": "t.status",
    "complete": "t.complete",
    "experiment_id": "e.id",
    "experiment_name": "e.name",
    "service": "t.service",
    "service_version": "t.service_version",
    "environment": "t.environment",
    "agent": "t.agent",
    "agents": _list("t.agents"),
    "session": "t.session",
    "user": 't."user"',
    "run_id": "t.run_id",
    "models": _list("t.models"),
    "tools": _list("t.tools"),
    "tags": _list("t.tags"),
    "span_count": "t.span_count",
    "model_calls": "t.model_calls",
    "tool_calls": "t.tool_calls",
    "error_spans": "t.error_spans",
    "recovered_retries": "t.recovered_retries",
    "missing_parents": "t.missing_parents",
    **{f"{name}_tokens": f"t.{name}_tokens" for name in TOKENS},
    "cost_usd": "t.cost_usd",
    "cost_source": "t.cost_source",
    "unpriced_model_calls": "t.unpriced_model_calls",
    "time_to_first_token_seconds": "t.time_to_first_token_seconds",
    "error_type": "t.error_type",
    "error_message": "t.error_message",
}
TRACE_SORTS: Mapping[str, str] = {
    "start": "start_unix_ns",
    "duration": "duration_ns",
    "cost": "coalesce(cost_usd, -1)",
    "tokens": "coalesce(total_tokens, -1)",
    "spans": "span_count",
    "errors": "error_spans",
    "model_calls": "model_calls",
    "name": "name",
}
SESSION_SORTS: Mapping[str, str] = {
    "start": "start_unix_ns",
    "last": "end_unix_ns",
    "duration": "end_unix_ns - start_unix_ns",
    "turns": "turns",
    "cost": "coalesce(cost_usd, -1)",
    "tokens": "coalesce(total_tokens, -1)",
    "errors": "errors",
}
PARAMETERS = ("sort", "limit", "cursor", "format")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Part of a table: SQL for its rows. The two last columns of each row are its sort key and its id."""

    sql: str
    values: Values
    columns: Sequence[str]
    limit: int
    format: str


def traces_page(asked: Asked) -> Page:
    """Rows of traces. Raises BadParameter."""
    asked.known((*TRACE_FILTERS, *PARAMETERS))
    where = of_traces(asked)
    limit, format = _limit(asked)
    sort, descending = _sort(asked, TRACE_SORTS, "-start")
    _behind(asked, where, sort, "trace_id::VARCHAR || ':' || experiment", descending=descending)
    rows = f"SELECT *, trace_id::VARCHAR || ':' || experiment AS row_id FROM traces WHERE {where.sql}"
    return Page(
        sql=_sorted(rows, TRACE_ROW, "t", sort, descending=descending, limit=limit),
        values=where.values,
        columns=tuple(TRACE_ROW),
        limit=limit,
        format=format,
    )


SESSION_ROW: Mapping[str, str] = {
    "session": "s.session",
    "experiment_id": "e.id",
    "experiment_name": "e.name",
    "user": 's."user"',
    "agents": f"list_sort(list_distinct({_list('s.agents')}))",
    "start_unix_ns": "s.start_unix_ns",
    "end_unix_ns": "s.end_unix_ns",
    "duration_seconds": "(s.end_unix_ns - s.start_unix_ns) / 1e9",
    "busy_seconds": "s.busy_seconds",
    "turns": "s.turns",
    "errors": "s.errors",
    "recovered_retries": "s.recovered_retries",
    "model_calls": "s.model_calls",
    "tool_calls": "s.tool_calls",
    **{f"{name}_tokens": f"s.{name}_tokens" for name in TOKENS},
    "cost_usd": "s.cost_usd",
    "first_trace_id": _id("s.first_trace_id"),
    "last_trace_id": _id("s.last_trace_id"),
}
_SESSION_SUMS = (
    'any_value("user") AS "user", string_agg(DISTINCT agents, chr(31)) AS agents,'
    " min(start_unix_ns) AS start_unix_ns, max(start_unix_ns + duration_ns) AS end_unix_ns,"
    " sum(duration_ns) / 1e9 AS busy_seconds, count(*) AS turns,"
    " count(*) FILTER (status = 'ERROR') AS errors, sum(recovered_retries) AS recovered_retries,"
    " sum(model_calls) AS model_calls, sum(tool_calls) AS tool_calls,"
    f" {', '.join(f'sum({name}_tokens) AS {name}_tokens' for name in TOKENS)}, sum(cost_usd) AS cost_usd,"
    " arg_min(trace_id, start_unix_ns) AS first_trace_id, arg_max(trace_id, start_unix_ns) AS last_trace_id"
)


def sessions_page(asked: Asked) -> Page:
    """Rows of sessions: their traces that are meant, summed up. Raises BadParameter."""
    asked.known((*TRACE_FILTERS, *PARAMETERS))
    where = of_traces(asked)
    where.add("session IS NOT NULL")
    limit, format = _limit(asked)
    sort, descending = _sort(asked, SESSION_SORTS, "-last")
    behind = Where()
    _behind(asked, behind, sort, "session || ':' || experiment", descending=descending)
    rows = (
        f"SELECT *, session || ':' || experiment AS row_id FROM (SELECT experiment, session, {_SESSION_SUMS}"
        f" FROM traces WHERE {where.sql} GROUP BY experiment, session) WHERE {behind.sql}"
    )
    return Page(
        sql=_sorted(rows, SESSION_ROW, "s", sort, descending=descending, limit=limit),
        values=[*where.values, *behind.values],
        columns=tuple(SESSION_ROW),
        limit=limit,
        format=format,
    )


ERROR_ROW: Mapping[str, str] = {
    "error": "coalesce(error_group, error_type, 'error')",
    "type": "arg_max(error_type, start_unix_ns)",
    "traces": "count(DISTINCT trace_id)",
    "spans": "count(*)",
    "first_unix_ns": "min(start_unix_ns)",
    "last_unix_ns": "max(start_unix_ns)",
    "kinds": _different("kind"),
    "agents": _different("owning_agent"),
    "models": _different("model"),
    "tools": _different("tool"),
    "example_message": "arg_max(error_message, start_unix_ns)",
    "example_trace_id": _id("arg_max(trace_id, start_unix_ns)"),
}
ERROR_SORTS = {"traces": "traces", "spans": "spans", "last": "last_unix_ns", "first": "first_unix_ns"}


def errors_page(asked: Asked) -> Page:
    """Errors that say the same but for ids, numbers and names; recovered retries are none.

    Raises BadParameter.
    """
    asked.known((*SPAN_FILTERS, "sort", "limit", "format"))
    where = of_spans(asked)
    where.add("is_error AND NOT recovered_retry")
    limit, format = _limit(asked)
    sort, descending = _sort(asked, ERROR_SORTS, "-traces")
    columns = ", ".join(f'{sql} AS "{name}"' for name, sql in ERROR_ROW.items())
    return Page(
        sql=f"SELECT {columns}, NULL, NULL FROM spans WHERE {where.sql} GROUP BY 1"
        f" ORDER BY {sort} {'DESC' if descending else 'ASC'}, 1 LIMIT {limit + 1}",
        values=where.values,
        columns=tuple(ERROR_ROW),
        limit=limit,
        format=format,
    )


def _sorted(rows: str, row: Mapping[str, str], alias: str, sort: str, *, descending: bool, limit: int) -> str:
    """The first of `rows` and one more, with their experiments, sort keys and ids; columns as in `row`."""
    direction = "DESC" if descending else "ASC"
    order = f"ORDER BY sort_key {direction}, row_id {direction}"
    columns = ", ".join(f'{sql} AS "{name}"' for name, sql in row.items())
    # the page is cut before its rows are worked out
    first = f"SELECT *, {sort} AS sort_key FROM ({rows}) {order} LIMIT {limit + 1}"
    return (
        f"SELECT {columns}, sort_key, row_id FROM ({first}) {alias} LEFT JOIN experiments e"
        f" ON e.number = {alias}.experiment {order}"
    )


def cursor_text(sort_key: object, row_id: str) -> str:
    """The cursor behind a row."""
    return base64.urlsafe_b64encode(json.dumps([sort_key, row_id]).encode()).decode().rstrip("=")


def _limit(asked: Asked) -> tuple[int, str]:
    format = asked.choice("format", FORMATS, "json")
    most = MAX_LIMIT if format == "json" else MAX_EXPORT
    return asked.whole("limit", default=100 if format == "json" else most, low=1, high=most), format


def _sort(asked: Asked, sorts: Mapping[str, str], default: str) -> tuple[str, bool]:
    text = asked.one("sort") or default
    name = text.removeprefix("-")
    if name not in sorts:
        allowed = f"must be one of {', '.join(sorts)}, with - for the largest first"
        raise BadParameter("sort", text[:80], allowed)
    return sorts[name], text.startswith("-")


def _behind(asked: Asked, where: Where, sort: str, row_id: str, *, descending: bool) -> None:
    text = asked.one("cursor")
    if text is None:
        return
    try:
        key, id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        key = id = None
    if not isinstance(key, int | float | str) or not isinstance(id, str):
        raise BadParameter("cursor", text[:80], "must be next_cursor of the page before")
    compare = "<" if descending else ">"
    where.add(f"({sort}, {row_id}) {compare} (?, ?)", key, id)
