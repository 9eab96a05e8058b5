"""The traces linked to a run, summed up from MLflow's TraceInfo rows. Pure.

Tokens and cost are what MLflow holds as metadata of each trace: its own sums, or what harmonise gave it.
Source: traces/search of MLflow's REST API 3.0; TraceMetadataKey in
https://github.com/mlflow/mlflow/blob/master/mlflow/tracing/constant.py
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from collector.answers.runs.models import LinkedTraces

USAGE = "mlflow.trace.tokenUsage"
COST = "mlflow.trace.cost"
SESSION = "mlflow.trace.session"
NAME = "mlflow.traceName"
MAX_NAMES = 20


def sum_up(infos: Sequence[Mapping[str, Any]], *, truncated: bool) -> LinkedTraces:
    """What the traces have in common; a number that no trace knows is None."""
    durations = sorted(filter(None, (seconds_of(info.get("execution_duration")) for info in infos)))
    metadata = [info.get("trace_metadata") or {} for info in infos]
    usages = [_object(values.get(USAGE)) for values in metadata]
    names = Counter(str((info.get("tags") or {}).get(NAME) or "") for info in infos)
    return LinkedTraces(
        count=len(infos),
        truncated=truncated,
        errors=sum(info.get("state") == "ERROR" for info in infos),
        duration_p50_seconds=quantile(durations, 0.5),
        duration_p95_seconds=quantile(durations, 0.95),
        duration_max_seconds=durations[-1] if durations else None,
        input_tokens=_total(usage.get("input_tokens") for usage in usages),
        output_tokens=_total(usage.get("output_tokens") for usage in usages),
        total_tokens=_total(usage.get("total_tokens") for usage in usages),
        cost_usd=_money(_object(values.get(COST)).get("total_cost") for values in metadata),
        sessions=len({values[SESSION] for values in metadata if values.get(SESSION)}),
        names={name: count for name, count in names.most_common(MAX_NAMES) if name},
    )


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value below which `share` of an ordered list lies, between neighbours in proportion."""
    if not ordered:
        return None
    place = (len(ordered) - 1) * share
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def seconds_of(duration: Any) -> float | None:
    """The seconds of protobuf's JSON form of a Duration, `1.5s`."""
    if not isinstance(duration, str) or not duration.endswith("s"):
        return None
    try:
        return timedelta(seconds=float(duration[:-1])).total_seconds()
    except (ValueError, OverflowError):
        return None


def _total(values: Iterable[Any]) -> int | None:
    known = [int(value) for value in values if isinstance(value, int | float)]
    return sum(known) if known else None


def _money(values: Iterable[Any]) -> float | None:
    known = [float(value) for value in values if isinstance(value, int | float)]
    return math.fsum(known) if known else None


def _object(text: Any) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
