"""The rows that a question is about, as conditions of SQL. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from collector.index.queries.filters import Held, Selection, TextFilter
from collector.index.sql.columns import SEPARATOR, TRACE_COLUMNS
from collector.index.sql.dialect import Dialect
from collector.index.sql.where import Where
from collector.model.score_condition import ScoreCondition, TextPattern


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
    _add_scores(where, selection, dialect)
    return where


def _add_scores(where: Where, selection: Selection, dialect: Dialect) -> None:
    """Those of traces that have such a score, and such scores themselves."""
    if selection.trace_scores:
        having = _scores(selection.trace_scores, "name", "value", "label", dialect)
        where.add(
            f"(experiment, trace_id) IN (SELECT (experiment, trace_id) FROM scores WHERE {having.sql})",
            *having.values,
        )
    if selection.own_scores:
        own = _scores(selection.own_scores, "score_name", "score_value", "score_label", dialect)
        where.add(own.sql, *own.values)


def _scores(
    conditions: Sequence[ScoreCondition], name: str, value: str, label: str, dialect: Dialect
) -> Where:
    """Any of the conditions, on the columns that are given."""
    either = Where()
    for each in conditions:
        named, pattern = _is(name, each.name, dialect)
        both = Where()
        both.add(named, pattern)
        if each.comparison is not None:
            both.add(f"{value} {each.comparison} ?", each.number)
        elif each.label is not None:
            labels = [_is(label, each.label, dialect)]
            both.any_of([*labels, (f"{value} = ?", each.number)] if each.number is not None else labels)
        either.add(f"({both.sql})", *both.values)
    anyhow = Where()
    anyhow.add(f"({' OR '.join(either.conditions)})", *either.values)
    return anyhow


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
