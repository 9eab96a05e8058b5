"""Rows of traces, of sessions, and of errors: with filters, order and pages, as data. Pure.

A page ends with a cursor: what the last row was sorted by, and its id. The next page begins right behind it,
whatever has come in between.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from collector.index.queries.asked import Asked
from collector.index.queries.filters import (
    SPAN_FILTERS,
    TRACE_FILTERS,
    Selection,
    select_spans,
    select_traces,
)
from collector.model.parameters import BadParameter

MAX_LIMIT = 1000
# an export is streamed from a file
MAX_EXPORT = 1_000_000
FORMATS = ("json", "csv", "parquet")
PARAMETERS = ("sort", "limit", "cursor", "format")
TRACE_SORTS = ("start", "duration", "cost", "tokens", "spans", "errors", "model_calls", "name")
SESSION_SORTS = ("start", "last", "duration", "turns", "cost", "tokens", "errors")
ERROR_SORTS = ("traces", "spans", "last", "first")


class TableName(StrEnum):
    """What there are rows of."""

    TRACES = "traces"
    SESSIONS = "sessions"
    ERRORS = "errors"


@dataclass(frozen=True, slots=True)
class PageCursor:
    """Where the page before ended: what its last row was sorted by, and that row's id."""

    sort_key: int | float | str
    row_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableQuery:
    """Part of a table, checked: `sort` is one of the table's sorts."""

    table: TableName
    selection: Selection
    sort: str
    descending: bool
    limit: int
    format: str
    cursor: PageCursor | None = None


def traces_query(asked: Asked) -> TableQuery:
    """Rows of traces. Raises BadParameter."""
    asked.known((*TRACE_FILTERS, *PARAMETERS))
    return _query(asked, TableName.TRACES, select_traces(asked), TRACE_SORTS, "-start")


def sessions_query(asked: Asked) -> TableQuery:
    """Rows of sessions: their traces that are meant, summed up. Raises BadParameter."""
    asked.known((*TRACE_FILTERS, *PARAMETERS))
    return _query(asked, TableName.SESSIONS, select_traces(asked), SESSION_SORTS, "-last")


def errors_query(asked: Asked) -> TableQuery:
    """Errors that say the same but for ids, numbers and names; recovered retries are none.

    Raises BadParameter.
    """
    asked.known((*SPAN_FILTERS, "sort", "limit", "format"))
    return _query(asked, TableName.ERRORS, select_spans(asked), ERROR_SORTS, "-traces")


def _query(
    asked: Asked, table: TableName, selection: Selection, sorts: Sequence[str], default: str
) -> TableQuery:
    limit, format = _limit(asked)
    sort, descending = _sort(asked, sorts, default)
    return TableQuery(
        table=table,
        selection=selection,
        sort=sort,
        descending=descending,
        limit=limit,
        format=format,
        cursor=_cursor(asked),
    )


def cursor_text(sort_key: object, row_id: str) -> str:
    """The cursor behind a row."""
    return base64.urlsafe_b64encode(json.dumps([sort_key, row_id]).encode()).decode().rstrip("=")


def _limit(asked: Asked) -> tuple[int, str]:
    format = asked.choice("format", FORMATS, "json")
    most = MAX_LIMIT if format == "json" else MAX_EXPORT
    return asked.whole("limit", default=100 if format == "json" else most, low=1, high=most), format


def _sort(asked: Asked, sorts: Sequence[str], default: str) -> tuple[str, bool]:
    text = asked.one("sort") or default
    name = text.removeprefix("-")
    if name not in sorts:
        allowed = f"must be one of {', '.join(sorts)}, with - for the largest first"
        raise BadParameter("sort", text[:80], allowed)
    return name, text.startswith("-")


def _cursor(asked: Asked) -> PageCursor | None:
    text = asked.one("cursor")
    if text is None:
        return None
    try:
        key, id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        key = id = None
    if not isinstance(key, int | float | str) or not isinstance(id, str):
        raise BadParameter("cursor", text[:80], "must be next_cursor of the page before")
    return PageCursor(key, id)
