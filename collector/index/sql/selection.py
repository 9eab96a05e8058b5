"""The rows that a question is about, as conditions of SQL. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from collector.index.queries.filters import Held, Selection, TextFilter, TextPattern
from collector.index.sql.columns import SEPARATOR, TRACE_COLUMNS
from collector.index.sql.dialect import Dialect
from collector.index.sql.where import Where


def where_selected(selection: Selection, columns: Mapping[str, str], dialect: Dialect) -> Where:
    """The rows of a table that are meant; `columns` are SQL by the names of the filters."""
    where = where_experiments(selection, dialect)
    for condition, value in (
        ("start_unix_ns >= ?", selection.since_unix_ns),
        ("start_unix_ns < ?", selection.until_unix_ns),
        ("duration_ns >= ?", selection.min_duration_ns),
        ("duration_ns <= ?", selection.max_duration_ns),
        ("cost_usd >= ?", selection.min_cost_usd),
    ):
        if value is not None:
            where.add(condition, value)
    _add_filters(where, selection.filters, columns, dialect)
    their = Where()
    _add_filters(their, selection.of_their_trace, TRACE_COLUMNS, dialect)
    if their.conditions:
        where.add(
            f"(experiment, trace_id) IN (SELECT (experiment, trace_id) FROM traces WHERE {their.sql})",
            *their.values,
        )
    return where


def where_experiments(selection: Selection, dialect: Dialect) -> Where:
    """The experiments that are meant and may be seen."""
    where = Where()
    visible = selection.visible_experiment_ids
    if visible is not None:
        _add_experiments(where, "id", sorted(visible), dialect)
    if selection.experiment_ids:
        _add_experiments(where, "id", selection.experiment_ids, dialect)
    if selection.experiment_names:
        _add_experiments(where, "name", selection.experiment_names, dialect)
    return where


def _add_experiments(where: Where, column: str, values: Sequence[str], dialect: Dialect) -> None:
    listed = dialect.is_one_of(column)
    where.add(f"experiment IN (SELECT number FROM experiments WHERE {listed})", list(values))


def _add_filters(
    where: Where, filters: Sequence[TextFilter], columns: Mapping[str, str], dialect: Dialect
) -> None:
    for each in filters:
        like = _is if each.held is Held.ONE else _has
        where.any_of([like(columns[each.name], pattern, dialect) for pattern in each.patterns])


def _is(column: str, pattern: TextPattern, dialect: Dialect) -> tuple[str, Any]:
    """The column is this, or begins so."""
    return dialect.starts_with(column) if pattern.is_prefix else f"{column} = ?", pattern.text


def _has(column: str, pattern: TextPattern, dialect: Dialect) -> tuple[str, Any]:
    """The column's list has this, or something that begins so."""
    end = "" if pattern.is_prefix else SEPARATOR
    return dialect.contains(column), f"{SEPARATOR}{pattern.text}{end}"
