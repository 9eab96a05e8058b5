"""What the page shows first, and two windows or groups side by side: several questions, put together. Pure.

overview     totals, what changed since the period before, the time axis, top agents, models, tools, errors,
             scores
comparison   the same metrics of `a` and of `b`, with difference and ratio
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from collector.index.queries.asked import Asked
from collector.index.queries.filters import TRACE_FILTERS
from collector.index.queries.stats import PARAMETERS, StatsQuery, question
from collector.model.parameters import BadParameter

TOP = "8"
TOTALS = (
    *("count", "errors", "error_rate", "recovered_retries", "duration_seconds_p50", "duration_seconds_p95"),
    *("input_tokens", "output_tokens", "total_tokens", "cost_usd", "unpriced_model_calls", "model_calls"),
    *("tool_calls", "sessions", "users"),
)
AXIS = (
    *("count", "error_rate", "duration_seconds_p50", "duration_seconds_p95", "input_tokens"),
    *("output_tokens", "cost_usd", "model_calls", "tool_calls"),
)
# name in the answer -> (of, by, metrics)
TOPS: Mapping[str, tuple[str, str, Sequence[str]]] = {
    "agents": (
        "traces",
        "agent",
        ("count", "error_rate", "duration_seconds_p95", "duration_seconds_mean", "cost_usd"),
    ),
    "models": (
        "models",
        "model",
        (
            *("count", "error_rate", "duration_seconds_p95", "self_seconds"),
            *("input_tokens", "output_tokens", "cost_usd"),
        ),
    ),
    "tools": (
        "tools",
        "tool",
        ("count", "error_rate", "recovered_retries", "duration_seconds_p95", "self_seconds"),
    ),
    "errors": ("errors", "error", ("traces", "count")),
    "scores": ("scores", "score", ("count", "traces", "score_mean", "pass_rate", "errors")),
}
SIDES = ("a", "b")


def with_parameters(asked: Asked, **values: Sequence[str]) -> Asked:
    """The same request, with other values for some parameters; none takes the parameter away."""
    kept = {name: given for name, given in asked.parameters.items() if name not in values}
    return replace(asked, parameters=kept | {name: given for name, given in values.items() if given})


def overview_questions(asked: Asked) -> dict[str, StatsQuery]:
    """The questions of the overview, by their names in the answer. Raises BadParameter."""
    asked.known((*TRACE_FILTERS, "bucket"))
    until = asked.time("until") or asked.now_unix_ns
    since = asked.time("since")
    asks = {
        "totals": question(with_parameters(asked, metric=TOTALS, bucket=())),
        "axis": question(with_parameters(asked, metric=AXIS, bucket=asked.all("bucket") or ("auto",))),
    }
    if since:
        earlier = str(max(0, 2 * since - until))
        before = with_parameters(asked, metric=TOTALS, since=(earlier,), until=(str(since),), bucket=())
        asks["before"] = question(before)
    for name, (of, by, metrics) in TOPS.items():
        about = with_parameters(asked, of=(of,), by=(by,), metric=metrics, top=(TOP,), bucket=())
        if of == "scores":
            about = with_parameters(about, score=(), trace_score=asked.all("score"))
        elif of != "traces" and asked.all("status"):  # of a span it would be the span's
            about = with_parameters(about, status=(), trace_status=asked.all("status"))
        asks[name] = question(about)
    return asks


def comparison_questions(asked: Asked) -> dict[str, StatsQuery]:
    """The question for each side. What begins with a. or b. is said of that side alone.

    Raises BadParameter: nothing tells the sides apart, or a parameter isn't known.
    """
    shared = {name: values for name, values in asked.parameters.items() if name[:2] not in ("a.", "b.")}
    sides = {}
    for side in SIDES:
        own = {name[2:]: values for name, values in asked.parameters.items() if name.startswith(f"{side}.")}
        for name in own:
            if name in PARAMETERS:
                raise BadParameter(f"{side}.{name}", name, "must be the same on both sides")
        sides[side] = question(replace(asked, parameters=shared | own))
    if sides["a"].selection == sides["b"].selection:
        raise BadParameter(
            "a.since", None, "say what sets the sides apart, as a.since=-2h&a.until=-1h&b.since=-1h"
        )
    return sides


def difference(a: float | None, b: float | None) -> dict[str, float | None]:
    """Both, what b has more than a, and as a share of a."""
    known = a is not None and b is not None
    more = b - a if a is not None and b is not None else None
    return {"a": a, "b": b, "difference": more, "ratio": b / a if known and a and b is not None else None}
