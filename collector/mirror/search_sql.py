"""A question to traces/search as SQL over the rows, with MLflow's meaning. Pure.

What MLflow does on SQLite, and so here: all conditions about spans are about one span, which must not begin
long before the time that is asked for; a comparison with what isn't there doesn't hold; texts are compared by
their bytes, ILIKE ignores the case of ASCII letters alone, and both kinds of LIKE read a text up to a NUL.
"""

from collections.abc import Sequence

from collector.mirror.conditions import SearchCondition
from collector.mirror.question import PassOnReason
from collector.mirror.search import SearchOrder, SearchQuestion
from collector.mirror.sql import Values

# of a trace on the page, in this order; the first is its id
PAGE = ("trace_id", "timestamp_ms", "latency_ms", "status", "name", "session")
# MLflow's allowance between the clocks of traces and spans
_TOLERANCE_MS = 10_000
_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
_TO_LOWER = str.maketrans(_UPPER, _LOWER)
_END = "(timestamp_ms + coalesce(latency_ms, 0))"
_NULLABLE = frozenset({"latency_ms", "name"})


def page_sql(question: SearchQuestion) -> tuple[str, Values]:
    """SQL for the traces of a page, and one more if there is one."""
    conditions, values = [_experiments(question)], Values()
    for each in question.conditions:
        if each.table != "spans":
            condition, given = _about_trace(each)
            conditions.append(condition)
            values += given
    if question.about_spans:
        condition, given = _about_a_span(question)
        conditions.append(condition)
        values += given
    order = ", ".join(map(_ordered, question.order))
    sql = f"SELECT {', '.join(PAGE)} FROM traces WHERE {' AND '.join(conditions)} ORDER BY {order}"
    return f"{sql} LIMIT {question.limit + 1} OFFSET {question.offset}", values


def search_doubts_sql(question: SearchQuestion) -> dict[PassOnReason, tuple[str, Values]]:
    """SQL that finds something where the rows don't hold what the question needs."""
    ids = _experiments(question)
    sql = f"SELECT 1 FROM traces WHERE NOT (is_whole AND spans_are_held) AND {ids} LIMIT 1"
    found: dict[PassOnReason, tuple[str, Values]] = {PassOnReason.HELD_IN_PART: (sql, [])}
    if question.needs_types and not question.types_are_certain:
        sql = f"SELECT 1 FROM spans WHERE NOT type_is_certain AND {ids} LIMIT 1"
        found[PassOnReason.SPAN_TYPES] = (sql, [])
    return found


def _experiments(question: SearchQuestion) -> str:
    return f"experiment IN ({', '.join(str(id) for id in question.experiment_ids)})"


def _about_trace(each: SearchCondition) -> tuple[str, Values]:
    if each.table == "traces":
        return _compared(_END if each.column == "end_ms" else each.column, each)
    entries = "SELECT trace_id FROM entries WHERE kind = ? AND key = ? AND value = ?"
    return f"trace_id IN ({entries})", [each.table, each.key, each.value]


def _about_a_span(question: SearchQuestion) -> tuple[str, Values]:
    conditions, values = [_experiments(question)], Values()
    for each in question.about_spans:
        condition, given = _compared(each.column, each)
        conditions.append(condition)
        values += given
    if (since := _since_ms(question.conditions)) is not None:
        conditions.append(f"start_ns >= {(since - _TOLERANCE_MS) * 1_000_000}")
    return f"trace_id IN (SELECT trace_id FROM spans WHERE {' AND '.join(conditions)})", values


def _since_ms(conditions: Sequence[SearchCondition]) -> int | None:
    """The latest time that all traces of the page begin after."""
    return max(
        (
            each.value
            for each in conditions
            if (each.table, each.column) == ("traces", "timestamp_ms")
            and each.operator in (">", ">=")
            and isinstance(each.value, int)
        ),
        default=None,
    )


def _compared(column: str, each: SearchCondition) -> tuple[str, Values]:
    match each.operator, each.value:
        case (("IS NULL" | "IS NOT NULL"), _):
            return f"{column} {each.operator}", []
        case (("IN" | "NOT IN"), list(texts)):
            return f"{column} {each.operator} ({', '.join('?' * len(texts))})", texts
        case "LIKE", _:
            return f"{_upto_nul(column)} LIKE ?", [each.value]
        case "ILIKE", str(pattern):
            return f"{_lowered(column)} LIKE ?", [pattern.translate(_TO_LOWER)]
        case _:
            return f"{column} {each.operator} ?", [each.value]


def _upto_nul(column: str) -> str:
    return f"CASE WHEN contains({column}, chr(0)) THEN split_part({column}, chr(0), 1) ELSE {column} END"


def _lowered(column: str) -> str:
    """With the letters of ASCII alone made small; `lower` is many times as fast, and mostly the same."""
    exact = f"translate({_upto_nul(column)}, '{_UPPER}', '{_LOWER}')"
    others = f"strlen({column}) > length({column}) AND lower({column}) <> {column}"
    return f"CASE WHEN contains({column}, chr(0)) OR ({others}) THEN {exact} ELSE lower({column}) END"


def _ordered(each: SearchOrder) -> str:
    nulls = " NULLS LAST" if each.column in _NULLABLE else ""
    return f"{each.column} {'ASC' if each.ascending else 'DESC'}{nulls}"
