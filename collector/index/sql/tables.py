"""Rows of traces, of sessions, and of errors as SQL. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from collector.index.queries.stats import COST_DECIMALS, TOKENS
from collector.index.queries.tables import TableName, TableQuery
from collector.index.sql.columns import COUNTED, LATEST, LATEST_SPAN, SPAN_COLUMNS, TRACE_COLUMNS
from collector.index.sql.dialect import Dialect
from collector.index.sql.selection import where_selected
from collector.index.sql.where import Values, Where

_USER = '"user"'
_COST_AND_TOKENS = {"cost": "coalesce(cost_usd, -1)", "tokens": "coalesce(total_tokens, -1)"}
TRACE_SORT_KEYS: Mapping[str, str] = {
    **_COST_AND_TOKENS,
    "start": "start_unix_ns",
    "duration": "duration_ns",
    "spans": "span_count",
    "errors": "error_spans",
    "model_calls": "model_calls",
    "name": "name",
}
SESSION_SORT_KEYS: Mapping[str, str] = {
    **_COST_AND_TOKENS,
    "start": "start_unix_ns",
    "last": "end_unix_ns",
    "duration": "end_unix_ns - start_unix_ns",
    "turns": "turns",
    "errors": "errors",
}
ERROR_SORT_KEYS: Mapping[str, str] = {
    "traces": "traces",
    "spans": "spans",
    "last": "last_unix_ns",
    "first": "first_unix_ns",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePage:
    """Part of a table: SQL for its rows. The two last columns of each row are its sort key and its id."""

    sql: str
    values: Values
    columns: Sequence[str]


def table_sql(query: TableQuery, dialect: Dialect) -> TablePage:
    """The first rows that are meant, and one more."""
    return _PAGES[query.table](query, dialect)


def trace_row(dialect: Dialect) -> Mapping[str, str]:
    """Column of the answer -> SQL over `traces t LEFT JOIN experiments e`."""
    return {
        "trace_id": dialect.hex_id("t.trace_id"),
        "name": "t.name",
        "start_unix_ns": "t.start_unix_ns",
        "duration_seconds": "t.duration_ns / 1e9",
        **_named("t", "status", "complete"),
        **_EXPERIMENT,
        **_named("t", "service", "service_version", "environment", "agent"),
        "agents": dialect.list_of("t.agents"),
        "session": "t.session",
        "user": f"t.{_USER}",
        "run_id": "t.run_id",
        **{name: dialect.list_of(f"t.{name}") for name in ("models", "response_models", "tools", "tags")},
        **_named("t", "span_count", "model_calls", "tool_calls", "error_spans", "recovered_retries"),
        "missing_parents": "t.missing_parents",
        **_named("t", *(f"{name}_tokens" for name in TOKENS)),
        **_named("t", "cost_usd", "cost_source", "unpriced_model_calls", "time_to_first_token_seconds"),
        **_named("t", "error_type", "error_message"),
        "scores": dialect.list_or_empty("c.scores"),
    }


def score_record(dialect: Dialect) -> Mapping[str, str]:
    """A score in an answer -> SQL over a row of `scores`."""
    return {
        **{name: name for name in ("name", "value", "label", "error_type", "source", "judge")},
        "span_id": dialect.span_hex_id("span_id"),
        **{name: name for name in ("session", "time_unix_ns")},
    }


def scores_sql(where: str, dialect: Dialect) -> str:
    """A row for each trace with scores: its experiment, its id, and the list of them."""
    listed = dialect.records(score_record(dialect), ("time_unix_ns", "key"), MAX_SCORES)
    return (
        f"SELECT experiment, trace_id, {listed} AS scores FROM scores WHERE {where}"
        " GROUP BY experiment, trace_id"
    )


def session_row(dialect: Dialect) -> Mapping[str, str]:
    """Column of the answer -> SQL over sessions `s` LEFT JOIN experiments e."""
    return {
        "session": "s.session",
        **_EXPERIMENT,
        "user": f"s.{_USER}",
        "agents": dialect.sorted_list_of("s.agents"),
        **_named("s", "start_unix_ns", "end_unix_ns"),
        "duration_seconds": "(s.end_unix_ns - s.start_unix_ns) / 1e9",
        **_named("s", "busy_seconds", "turns", "errors", "recovered_retries", "model_calls", "tool_calls"),
        **_named("s", *(f"{name}_tokens" for name in TOKENS)),
        **_named("s", "cost_usd", "scores"),
        "first_trace_id": dialect.hex_id("s.first_trace_id"),
        "last_trace_id": dialect.hex_id("s.last_trace_id"),
    }


def error_row(dialect: Dialect) -> Mapping[str, str]:
    """Column of the answer -> SQL over a group of spans that failed."""
    listed = {"kinds": "kind", "agents": "owning_agent", "models": SPAN_COLUMNS["model"], "tools": "tool"}
    return {
        "error": "coalesce(error_group, error_type, 'error')",
        "type": dialect.at_highest("error_type", LATEST_SPAN),
        "traces": "count(DISTINCT trace_id)",
        "spans": "count(*)",
        "first_unix_ns": "min(start_unix_ns)",
        "last_unix_ns": "max(start_unix_ns)",
        **{name: dialect.values(column, MAX_LISTED) for name, column in listed.items()},
        "example_message": dialect.at_highest("error_message", LATEST_SPAN),
        "example_trace_id": dialect.hex_id(dialect.at_highest("trace_id", LATEST_SPAN)),
    }


MAX_LISTED = 20
MAX_SCORES = 100
_EXPERIMENT = {"experiment_id": "e.id", "experiment_name": "e.name"}


def _named(alias: str, *names: str) -> dict[str, str]:
    return {name: f"{alias}.{name}" for name in names}


def _traces(query: TableQuery, dialect: Dialect) -> TablePage:
    where = where_selected(query.selection, TRACE_COLUMNS, dialect)
    row_id = f"{dialect.text('trace_id')} || ':' || experiment"
    sort = TRACE_SORT_KEYS[query.sort]
    _behind(query, where, sort, row_id)
    rows = f"SELECT *, {row_id} AS row_id FROM traces WHERE {where.sql}"
    scored = scores_sql("(experiment, trace_id) IN (SELECT (experiment, trace_id) FROM page)", dialect)
    join = f" LEFT JOIN ({scored}) c ON c.experiment = t.experiment AND c.trace_id = t.trace_id"
    return _page(query, rows, trace_row(dialect), "t", sort, where.values, join=join)


def _sessions(query: TableQuery, dialect: Dialect) -> TablePage:
    where, behind = where_selected(query.selection, TRACE_COLUMNS, dialect), Where()
    where.add("session IS NOT NULL")
    row_id = "session || ':' || experiment"
    sort = SESSION_SORT_KEYS[query.sort]
    _behind(query, behind, sort, row_id)
    rows = (
        f"SELECT *, {row_id} AS row_id FROM (SELECT experiment, session, {_session_sums(dialect)}"
        f" FROM {_WITH_SCORES} WHERE {where.sql} GROUP BY experiment, session) WHERE {behind.sql}"
    )
    return _page(query, rows, session_row(dialect), "s", sort, [*where.values, *behind.values])


# traces with how many scores each has
_WITH_SCORES = (
    "(SELECT t.*, c.scores AS scores FROM traces t LEFT JOIN"
    " (SELECT experiment, trace_id, count(*) AS scores FROM scores GROUP BY experiment, trace_id) c"
    " ON c.experiment = t.experiment AND c.trace_id = t.trace_id)"
)


def _session_sums(dialect: Dialect) -> str:
    columns = [
        f"min({_USER}) AS {_USER}",
        f"{dialect.joined('agents')} AS agents",
        "min(start_unix_ns) AS start_unix_ns",
        "max(start_unix_ns + duration_ns) AS end_unix_ns",
        "sum(duration_ns) / 1e9 AS busy_seconds",
        "count(*) AS turns",
        "count(*) FILTER (WHERE status = 'ERROR') AS errors",
        "coalesce(sum(scores), 0) AS scores",
        *(f"sum({name}) AS {name}" for name in ("recovered_retries", "model_calls", "tool_calls")),
        *(f"sum({name}_tokens) AS {name}_tokens" for name in TOKENS),
        f"round(sum(cost_usd), {COST_DECIMALS}) AS cost_usd",
        f"{dialect.at_lowest('trace_id', LATEST)} AS first_trace_id",
        f"{dialect.at_highest('trace_id', LATEST)} AS last_trace_id",
    ]
    return ", ".join(columns)


def _errors(query: TableQuery, dialect: Dialect) -> TablePage:
    where = where_selected(query.selection, SPAN_COLUMNS, dialect)
    where.add(COUNTED["errors"].conditions["error"])
    row = error_row(dialect)
    columns = ", ".join(f'{sql} AS "{name}"' for name, sql in row.items())
    sql = (
        f"SELECT {columns}, NULL, NULL FROM spans WHERE {where.sql} GROUP BY 1"
        f" ORDER BY {ERROR_SORT_KEYS[query.sort]} {_direction(query)}, 1 LIMIT {query.limit + 1}"
    )
    return TablePage(sql=sql, values=where.values, columns=tuple(row))


_PAGES: Mapping[TableName, Callable[[TableQuery, Dialect], TablePage]] = {
    TableName.TRACES: _traces,
    TableName.SESSIONS: _sessions,
    TableName.ERRORS: _errors,
}


def _page(
    query: TableQuery,
    rows: str,
    row: Mapping[str, str],
    alias: str,
    sort: str,
    values: Values,
    *,
    join: str = "",
) -> TablePage:
    """The first of `rows` and one more, with their experiments, sort keys and ids; columns as in `row`.

    `join` may name `page`, which holds these rows.
    """
    direction = _direction(query)
    order = f"ORDER BY sort_key {direction}, row_id {direction}"
    columns = ", ".join(f'{sql} AS "{name}"' for name, sql in row.items())
    # the page is cut before its rows are worked out
    first = f"SELECT *, {sort} AS sort_key FROM ({rows}) {order} LIMIT {query.limit + 1}"
    sql = (
        f"WITH page AS ({first}) SELECT {columns}, sort_key, row_id FROM page {alias}"
        f" LEFT JOIN experiments e ON e.number = {alias}.experiment{join} {order}"
    )
    return TablePage(sql=sql, values=values, columns=tuple(row))


def _behind(query: TableQuery, where: Where, sort: str, row_id: str) -> None:
    """Only rows behind the query's cursor."""
    if query.cursor is not None:
        compare = "<" if query.descending else ">"
        where.add(f"({sort}, {row_id}) {compare} (?, ?)", query.cursor.sort_key, query.cursor.row_id)


def _direction(query: TableQuery) -> str:
    return "DESC" if query.descending else "ASC"
