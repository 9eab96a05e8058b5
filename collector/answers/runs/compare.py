"""Runs side by side: what differs, and by how much. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from collector.answers.runs.models import Comparison, Difference, Run

# tags that MLflow writes itself and that differ between any two runs
OWN_TAGS = ("mlflow.",)


def compare(runs: Sequence[Run]) -> Comparison:
    """The params, metrics (last values) and users' tags of `runs`; what differs first, by name."""
    return Comparison(
        runs=list(runs),
        params=_differences([run.params for run in runs]),
        metrics=_differences([{metric.key: metric.last for metric in run.metrics} for run in runs]),
        tags=_differences(
            [{key: value for key, value in run.tags.items() if not key.startswith(OWN_TAGS)} for run in runs]
        ),
    )


def _differences(columns: Sequence[Mapping[str, Any]]) -> list[Difference]:
    keys = sorted({key for column in columns for key in column})
    differences = [_difference(key, [column.get(key) for column in columns]) for key in keys]
    return sorted(differences, key=lambda difference: (not difference.differs, difference.key))


def _difference(key: str, values: list[Any]) -> Difference:
    first, last = values[0], values[-1]
    change = None
    if isinstance(first, float) and isinstance(last, float) and first and math.isfinite(first + last):
        change = (last - first) / abs(first)
    same = all(_same(first, value) for value in values[1:])
    return Difference(key=key, values=values, differs=not same, change=change)


def _same(one: Any, other: Any) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return bool(one == other) or both_nan
