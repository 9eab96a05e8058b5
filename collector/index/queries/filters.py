"""Which rows a question is about: its filters as data. Pure.

Several values of one filter: any of them. Several filters: all of them. A value that ends in * stands for
whatever begins so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from collector.index.queries.asked import Asked
from collector.model.parameters import BadParameter
from collector.model.score_condition import ScoreCondition, TextPattern, score_condition, text_pattern


class Held(Enum):
    """How a row holds what a filter is about."""

    ONE = "one value"
    SEVERAL = "a list of values"
    TAGS = "a list of name=value"


TRACES: Mapping[str, Held] = {
    "status": Held.ONE,
    "name": Held.ONE,
    "service": Held.ONE,
    "version": Held.ONE,
    "environment": Held.ONE,
    "agent": Held.SEVERAL,
    "model": Held.SEVERAL,
    "response_model": Held.SEVERAL,
    "provider": Held.SEVERAL,
    "tool": Held.SEVERAL,
    "prompt": Held.SEVERAL,
    "prompt_name": Held.SEVERAL,
    "links_to": Held.SEVERAL,
    "session": Held.ONE,
    "user": Held.ONE,
    "run_id": Held.ONE,
    "tag": Held.TAGS,
    "error": Held.ONE,
}
SPANS: Mapping[str, Held] = dict.fromkeys(
    (
        *("status", "name", "span", "kind", "service", "version", "environment", "agent", "model"),
        *("response_model", "provider", "tool", "prompt", "prompt_name", "session", "user", "run_id"),
        "error",
    ),
    Held.ONE,
)
SCORES: Mapping[str, Held] = {**TRACES, **dict.fromkeys(("label", "source", "judge"), Held.ONE)}
# those that speak of a trace as a whole, asked of spans, and what they are called there
OF_THEIR_TRACE: Mapping[str, str] = {"tag": "tag", "trace_status": "status"}
# traces with a score like this, and of scores those that are like this
SCORE, TRACE_SCORE = "score", "trace_score"
NAMES = (
    *("experiment_id", "experiment_name", "since", "until"),
    *("min_duration_seconds", "max_duration_seconds", "min_cost_usd"),
)
TRACE_FILTERS = (*NAMES, *TRACES, SCORE)
SPAN_FILTERS = (*NAMES, *SPANS, *OF_THEIR_TRACE, SCORE)
# those of their traces, and of the scores themselves
SCORE_FILTERS = (*TRACE_FILTERS, "label", "source", "judge", TRACE_SCORE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFilter:
    """Rows whose value, or one of whose values, is like any of `patterns`; `name` is a key above."""

    name: str
    held: Held
    patterns: Sequence[TextPattern]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The rows that are meant: all of it holds. None, or nothing: no such filter.

    `visible_experiment_ids` are those that the client may see (None: all); `of_their_trace` filters spans by
    what their traces are like. Of `trace_scores` a trace has one that is like any; `own_scores` are about
    scores themselves.
    """

    visible_experiment_ids: frozenset[str] | None = None
    experiment_ids: Sequence[str] = ()
    experiment_names: Sequence[str] = ()
    since_unix_ns: int | None = None
    until_unix_ns: int | None = None
    min_duration_ns: int | None = None
    max_duration_ns: int | None = None
    min_cost_usd: float | None = None
    filters: Sequence[TextFilter] = ()
    of_their_trace: Sequence[TextFilter] = ()
    trace_scores: Sequence[ScoreCondition] = ()
    own_scores: Sequence[ScoreCondition] = ()


def select_traces(asked: Asked) -> Selection:
    """The traces that are meant. Raises BadParameter."""
    return _selection(asked, TRACES, {})


def select_spans(asked: Asked) -> Selection:
    """The spans that are meant. Raises BadParameter."""
    return _selection(asked, SPANS, OF_THEIR_TRACE)


def select_scores(asked: Asked) -> Selection:
    """The scores that are meant. Raises BadParameter."""
    selection = _selection(asked, SCORES, {}, trace_scores=TRACE_SCORE)
    return replace(selection, own_scores=_scores(asked, SCORE))


def _selection(
    asked: Asked,
    own: Mapping[str, Held],
    of_their_trace: Mapping[str, str],
    *,
    trace_scores: str = SCORE,
) -> Selection:
    return Selection(
        visible_experiment_ids=asked.experiments,
        experiment_ids=asked.all("experiment_id"),
        experiment_names=asked.all("experiment_name"),
        since_unix_ns=asked.time("since"),
        until_unix_ns=asked.time("until"),
        min_duration_ns=_nanoseconds(asked.number("min_duration_seconds")),
        max_duration_ns=_nanoseconds(asked.number("max_duration_seconds")),
        min_cost_usd=asked.number("min_cost_usd"),
        filters=_filters(asked, {name: name for name in own}, own),
        of_their_trace=_filters(asked, of_their_trace, TRACES),
        trace_scores=_scores(asked, trace_scores),
    )


def _scores(asked: Asked, name: str) -> Sequence[ScoreCondition]:
    try:
        return [score_condition(text) for text in asked.all(name)]
    except ValueError as error:
        raise BadParameter(name, list(asked.all(name)), str(error)) from None


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1e9)


def _filters(asked: Asked, names: Mapping[str, str], held: Mapping[str, Held]) -> Sequence[TextFilter]:
    patterns = {
        name: [_pattern(value, held[name]) for value in asked.all(parameter)]
        for parameter, name in names.items()
    }
    return [TextFilter(name=name, held=held[name], patterns=like) for name, like in patterns.items() if like]


def _pattern(value: str, held: Held) -> TextPattern:
    if held is Held.TAGS and "=" not in value and not value.endswith("*"):  # a name, with any value
        return TextPattern(f"{value}=", is_prefix=True)
    return text_pattern(value)
