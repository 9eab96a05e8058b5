"""The filters of traces/metrics, read strictly. Pure.

MLflow parses each with a general SQL parser, and takes `=` alone. Here only plain forms are read, about which
there can't be two opinions; the rest is MLflow's to read or to refuse.

Source: SearchTraceMetricsUtils,
https://github.com/mlflow/mlflow/blob/master/mlflow/utils/search_utils.py.
"""

import re
from dataclasses import dataclass

# where MLflow keeps a value in a column of its own, beside tags and metadata
NAME_TAG = "mlflow.traceName"
SESSION_METADATA = "mlflow.trace.session"
# compared with sums, or with links that MLflow's API doesn't tell; or what a trace was asked and answered
NOT_HELD = frozenset(
    {
        *("mlflow.trace.tokenUsage", "mlflow.trace.cost", "mlflow.sourceRun"),
        *("mlflow.traceInputs", "mlflow.traceOutputs"),
    }
)
# MLflow cuts longer ones when it tells of them
MAX_CHARACTERS = {"tag": 4096, "metadata": 250}
# of a key or a value that has no column of its own; MLflow cuts neither before
MAX_ENTRY_CHARACTERS = 250

_PLAIN = re.compile(
    r"""(?P<of>trace\.status|span\.(?:name|status|type)|assessment\.(?:name|type)
        |trace\.(?P<map>tag|metadata)\.`(?P<key>[^`'"\\;\s]{1,249})`)
        \ {0,2}=\ {0,2}
        (?P<quote>['"])(?P<value>[^'"`\\;\x00-\x1f]+)(?P=quote)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricFilter:
    """`column` of the table `table` is `value`; `key` where it is one of a trace's tags or metadata."""

    table: str
    column: str
    value: str
    key: str | None = None


def read_filter(text: str) -> MetricFilter | None:
    """The filter, or None: it isn't plain, or its value isn't held."""
    found = _PLAIN.fullmatch(text)
    if found is None:
        return None
    value, kind = found["value"], found["map"]
    if value != value.strip():
        return None
    if kind is not None:
        return _of_a_trace(kind, found["key"], value)
    table, _, column = found["of"].partition(".")
    return MetricFilter(table=table, column=column, value=value)


def is_held(key: str, value: str) -> bool:
    """Whether a tag or metadata is among the rows, and so can be asked for."""
    return key not in NOT_HELD and max(len(key), len(value)) < MAX_ENTRY_CHARACTERS


def _of_a_trace(kind: str, key: str, value: str) -> MetricFilter | None:
    column = {("tag", NAME_TAG): "name", ("metadata", SESSION_METADATA): "session"}.get((kind, key))
    if column is not None:
        held = len(value) < MAX_CHARACTERS[kind]
        return MetricFilter(table="trace", column=column, value=value) if held else None
    if not is_held(key, value):
        return None
    return MetricFilter(table="trace", column=kind, key=key, value=value)
