"""Points of a metric: what is true of all of them, and fewer of them that draw the same picture. Pure."""

import math
from collections.abc import Sequence

from collector.answers.runs.models import Metric, MetricPoint


def summarise_history(
    metric: Metric, points: Sequence[MetricPoint], *, limit: int | None, truncated: bool
) -> Metric:
    """`metric` with the sums of `points` (any order) and, unless `limit` is 0, at most `limit` of them."""
    ordered = sorted(points, key=lambda point: (point.step, point.unix_ns))
    finite = [point.value for point in ordered if math.isfinite(point.value)]
    return metric.model_copy(
        update={
            "minimum": min(finite) if finite else None,
            "maximum": max(finite) if finite else None,
            "total_points": len(ordered),
            "truncated": truncated,
            "history": None if limit == 0 else thinned(ordered, limit),
        }
    )


def thinned(points: Sequence[MetricPoint], limit: int | None) -> list[MetricPoint]:
    """At most `limit` points (2 at the least) of an ordered history: the first, the last, and of each stretch
    between them its lowest and its highest, so that no spike is lost.
    """
    if limit is None or len(points) <= limit:
        return list(points)
    if limit <= 3:
        extremes = [_extreme(points, low=False)] if limit == 3 else []
        return [points[0], *extremes, points[-1]]
    kept = {0, len(points) - 1}
    stretches = (limit - 2) // 2
    inner = len(points) - 2
    for number in range(stretches):
        start = 1 + number * inner // stretches
        end = 1 + (number + 1) * inner // stretches
        values = [
            (points[index].value, index) for index in range(start, end) if not math.isnan(points[index].value)
        ]
        if values:
            kept |= {min(values)[1], max(values)[1]}
        elif end > start:
            kept.add(start)
    return [points[index] for index in sorted(kept)]


def _extreme(points: Sequence[MetricPoint], *, low: bool) -> MetricPoint:
    known = [point for point in points[1:-1] if not math.isnan(point.value)] or list(points[1:-1])
    return min(known, key=lambda point: point.value) if low else max(known, key=lambda point: point.value)
