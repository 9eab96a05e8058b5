"""The filter of traces/search, read strictly. Pure.

MLflow parses it with a general SQL parser. Here only plain forms are read, about which there can't be two
opinions, and only about what the rows hold; the rest is MLflow's to read or to refuse.

    condition [AND condition]...      condition: field operator value

Source: SearchTraceUtils, https://github.com/mlflow/mlflow/blob/master/mlflow/utils/search_utils.py, and what
becomes of it: _get_filter_clauses_for_search_traces,
https://github.com/mlflow/mlflow/blob/master/mlflow/store/tracking/sqlalchemy_store.py.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.mirror.filters import NAME_TAG, SESSION_METADATA, is_held

Value = str | int | Sequence[str] | None

# MLflow's names of a trace's fields -> columns of the rows
FIELDS: Mapping[str, str] = {
    **dict.fromkeys(("timestamp", "timestamp_ms"), "timestamp_ms"),
    **dict.fromkeys(("execution_time", "execution_time_ms"), "latency_ms"),
    **dict.fromkeys(("end_time", "end_time_ms"), "end_ms"),
    "status": "status",
    "name": "name",
}
NUMBERS = frozenset({"timestamp_ms", "latency_ms", "end_ms"})
# MLflow multiplies times, and its database's integers end at 2**63
MAX_NUMBER = 9 * 10**12
# its parser and its database have bounds as well; these are below
MAX_CONDITIONS = 20
MAX_LISTED = 100
MAX_CHARACTERS = 1000
# keys that MLflow takes for fields of the trace or of its spans, whatever stands before them
_FIELD_KEYS = frozenset({"name", "prompt", "run_id", "text", "timestamp", "execution_time", "end_time"})
_LINKED_PROMPTS = "mlflow.linkedPrompts"

_COMPARED = frozenset({"=", "!=", "LIKE", "ILIKE"})
_LISTED = _COMPARED | {"IN", "NOT IN"}
_ABSENT = _COMPARED | {"IS NULL", "IS NOT NULL"}
_ORDERED = frozenset({"=", "!=", "<", "<=", ">", ">="})

_PLAIN = r"""[^'"`\\;\x00-\x1f\x7f\ud800-\udfff]"""
_TEXT = rf"""'{_PLAIN}{{0,{MAX_CHARACTERS}}}'|"{_PLAIN}{{1,{MAX_CHARACTERS}}}\""""
# of a key without quotes; MLflow's parser takes some words for others even behind a dot
_WORD = r"(?!(?i:case|in|values|using|from|as)\b)[A-Za-z]\w*"
_KEY = rf"""`{_PLAIN}{{1,249}}`|"{_PLAIN}{{1,249}}"|{_WORD}(?:\.{_WORD})*"""
_CONDITION = re.compile(
    rf"""
    (?:
        span\.(?P<span>name|type|status)
      | (?P<map>tags?|metadata|request_metadata)\.(?P<key>{_KEY})
      | (?:trace\.|attributes?\.)?(?P<field>{"|".join(FIELDS)})
    )
    (?:
        \ (?P<absent>IS\ (?:NOT\ )?NULL)
      | \ (?P<listed>(?:NOT\ )?IN)\ ?\((?P<texts>(?:{_TEXT})(?:,\ ?(?:{_TEXT}))*)\)
      | \ (?P<like>I?LIKE)\ (?P<pattern>{_TEXT})
      | \ ?(?P<operator>!=|<=|>=|=|<|>)\ ?(?:(?P<text>{_TEXT})|(?P<number>0|[1-9][0-9]{{0,12}}))
    )
    (?P<joint>\ (?:AND|and)\ |$)
    """,
    re.VERBOSE | re.ASCII,
)
_LITERAL = re.compile(_TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCondition:
    """`column` of the table `table`, or a trace's tag or metadata (the `table`) with this `key`."""

    table: str
    column: str
    operator: str
    value: Value = None
    key: str | None = None


def read_conditions(text: str) -> Sequence[SearchCondition] | None:
    """The conditions, all of which must hold; None: they aren't plain, or not all of it is held."""
    found, place, more = list[SearchCondition](), 0, bool(text)
    while more:
        part = _CONDITION.match(text, place)
        condition = None if part is None else _condition(part)
        if part is None or condition is None or len(found) == MAX_CONDITIONS:
            return None
        found.append(condition)
        place, more = part.end(), bool(part["joint"])
    return found


def _condition(part: re.Match[str]) -> SearchCondition | None:
    operator = part["absent"] or part["listed"] or part["like"] or part["operator"]
    value = _value(part)
    if isinstance(value, list) and len(value) > MAX_LISTED:
        return None
    if (name := part["span"]) is not None:
        fits = operator in _LISTED and not isinstance(value, int)
        return SearchCondition(table="spans", column=name, operator=operator, value=value) if fits else None
    if part["map"] is not None:
        return _of_a_key(part["map"].removesuffix("s"), part["key"].strip('`"'), operator, value)
    return _of_a_field(FIELDS[part["field"]], operator, value)


def _value(part: re.Match[str]) -> Value:
    if part["absent"]:
        return None
    if part["listed"]:
        return [each[1:-1] for each in _LITERAL.findall(part["texts"])]
    if part["number"]:
        return int(part["number"])
    return str(part["pattern"] or part["text"])[1:-1]


def _of_a_field(column: str, operator: str, value: Value) -> SearchCondition | None:
    if column in NUMBERS:
        fits = operator in _ORDERED and isinstance(value, int) and value < MAX_NUMBER
    else:
        # MLflow keeps the name of a trace like a tag, which takes no list
        fits = operator in (_ABSENT if column == "name" else _LISTED) and not isinstance(value, int)
    return SearchCondition(table="traces", column=column, operator=operator, value=value) if fits else None


def _of_a_key(kind: str, key: str, operator: str, value: Value) -> SearchCondition | None:
    kind = "tag" if kind == "tag" else "metadata"
    if isinstance(value, int) or key.lower() in _FIELD_KEYS or key == _LINKED_PROMPTS:
        return None
    column = {("tag", NAME_TAG): "name", ("metadata", SESSION_METADATA): "session"}.get((kind, key))
    if column is not None:
        fits = operator in _ABSENT
        return (
            SearchCondition(table="traces", column=column, operator=operator, value=value) if fits else None
        )
    # other comparisons would also need the values that are too long to be held
    if operator != "=" or not isinstance(value, str) or not is_held(key, value):
        return None
    return SearchCondition(table=kind, column="value", operator=operator, value=value, key=key)
