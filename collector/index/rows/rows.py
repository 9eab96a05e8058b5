"""The spans of one trace -> its rows in the index, and back. Pure.

    SpanFacts … -> tree -> what counts for what -> a row of `traces`, rows of `spans`

Whatever the order and however often each span is there, the rows are the same.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Any

from collector.index.rows.columns import FACT_COLUMNS, SPAN_COLUMNS, TRACE_COLUMNS, Column
from collector.index.rows.records import (
    GivenOfTrace,
    SpanWithinTrace,
    TokensOfTrace,
    TraceLists,
    TraceOfSpan,
    TraceRecord,
)
from collector.index.sql.columns import SEPARATOR
from collector.spans.conventions import TOKEN_KINDS, CostSource, ObservationKind
from collector.spans.error_groups import normal_message
from collector.spans.labels import NO_LABELS, TraceLabels
from collector.spans.same_call import united
from collector.spans.score_facts import ScoreFact
from collector.spans.totals import Counted, count, owning_agents, tokens_of, total
from collector.spans.tree import Tree, build_tree, self_times_ns
from collector.spans.values import NO_TOKENS, SpanFacts, SpanLink, Tokens, made_of

Row = tuple[Any, ...]
MAX_LISTED = 20
_FACTS = tuple(column.fact for column in FACT_COLUMNS)
# the counts stand together, as the fields of Tokens; most spans have none
_FIRST_COUNT = _FACTS.index("tokens.input")
_before_counts = attrgetter(*_FACTS[:_FIRST_COUNT])
_counts = attrgetter(*TOKEN_KINDS)
_start, _agent, _prompt_name = map(attrgetter, ("start_unix_ns", "agent", "prompt_name"))
_behind_counts = attrgetter(*_FACTS[_FIRST_COUNT + 2 * len(TOKEN_KINDS) :])
_NO_COUNTS = (None,) * len(TOKEN_KINDS)
_FIRST_SUM, _SECOND_SUM = _FIRST_COUNT + len(TOKEN_KINDS), _FIRST_COUNT + 2 * len(TOKEN_KINDS)
# where a row holds the sums of tokens, and where its other facts
_SUMS = (
    ("tokens", slice(_FIRST_COUNT, _FIRST_SUM)),
    ("aggregated_tokens", slice(_FIRST_SUM, _SECOND_SUM)),
)
_PLACES = tuple((fact, place) for place, fact in enumerate(_FACTS) if not _FIRST_COUNT <= place < _SECOND_SUM)
# which of a span's sums of tokens is counted: of its own call, or over the run below it
OWN, RUN = "own", "run"


def values_of(record: type, columns: Sequence[Column]) -> Callable[[Any], Row]:
    """What gives the values of a record in the order of its table's columns.

    Raises TypeError where the record doesn't hold these columns and no others.
    """
    names = [column.name for column in columns]
    if set(names) != set(record.__annotations__):
        raise TypeError(f"{record.__name__} differs from its table: {names}")
    return itemgetter(*names)


# a row of `spans`: its ids, the facts, the span within its trace, its trace
SPAN_IDS = ("experiment", "trace_id", "span_id", "parent_span_id")
_trace_row = values_of(TraceRecord, TRACE_COLUMNS)
_behind_facts = SPAN_COLUMNS[len(SPAN_IDS) + len(FACT_COLUMNS) :]
_within_trace_end = len(SpanWithinTrace.__annotations__)
_within_trace = values_of(SpanWithinTrace, _behind_facts[:_within_trace_end])
_trace_of_span = values_of(TraceOfSpan, _behind_facts[_within_trace_end:-1])


def score_row(score: ScoreFact, experiment: int, *, seen_unix_ns: int, from_mlflow: bool = False) -> Row:
    """The row of a score."""
    return (
        *(experiment, score.trace_id),
        None if score.span_id is None else int(score.span_id, 16),
        *(score.key, score.name, score.value, score.label, score.error_type, score.source, score.judge),
        *(score.session, score.time_unix_ns, seen_unix_ns, from_mlflow),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRows:
    """The rows of one trace, values in the order of the tables' columns."""

    trace: Row
    spans: Sequence[Row]


def trace_rows(
    spans: Iterable[SpanFacts],
    *,
    experiment: int,
    run_id: str | None,
    seen_unix_ns: int,
    preview_characters: int,
    labels: TraceLabels = NO_LABELS,
) -> TraceRows:
    """The rows of a trace with at least one span. `preview_characters` bounds what is kept of messages."""
    said = build_tree(spans)
    tree = united(said)
    using = count(tree)
    given = GivenOfTrace(experiment=experiment, run_id=run_id, seen_unix_ns=seen_unix_ns)
    trace = _trace_record(tree, using, preview_characters, labels, given)
    rows = _span_rows(tree, said, using, trace, preview_characters)
    return TraceRows(trace=_trace_row(trace), spans=rows)


def _trace_record(
    tree: Tree, using: Counted, preview_characters: int, labels: TraceLabels, given: GivenOfTrace
) -> TraceRecord:
    message, group, type = _first_error(tree, preview_characters)
    whole = total(tree, using)
    listed = tree.spans
    calls = [listed[position] for position in using.calls]
    tools = [listed[position].tool for position in using.tools]
    return {
        **given,
        "trace_id": listed[0].trace_id,
        "low_ns": min(map(_start, listed)),
        "start_unix_ns": whole.start_unix_ns,
        "duration_ns": whole.end_unix_ns - whole.start_unix_ns,
        "root_duration_ns": listed[0].duration_ns if tree.root_count else None,
        "name": whole.name or listed[0].trace_id,
        "status": whole.status.value,
        "complete": tree.root_count > 0,
        "missing_parents": tree.missing_parents,
        "service": whole.service,
        "service_version": whole.service_version,
        "environment": whole.environment,
        "agent": whole.agent,
        "workflow": whole.workflow,
        "session": labels.session or whole.session,
        "user": labels.user or whole.user,
        **_lists(tree, calls, tools, labels),
        "span_count": len(listed),
        "model_calls": whole.model_call_count,
        "tool_calls": len(tools),
        "error_spans": whole.error_span_count,
        "recovered_retries": whole.recovered_retry_count,
        "truncated_calls": sum([span.is_truncated for span in calls]),
        **_tokens(whole.tokens),
        "cost_usd": whole.cost.usd,
        "cost_source": "mixed" if whole.cost.source is None else whole.cost.source.value,
        "unpriced_model_calls": whole.cost.unpriced_model_calls,
        "time_to_first_token_seconds": _time_to_first_token(calls, whole.start_unix_ns),
        "error_type": type,
        "error_message": message,
        "error_group": group,
    }


def _tokens(counts: Tokens) -> TokensOfTrace:
    return {
        "input_tokens": counts.input,
        "output_tokens": counts.output,
        "total_tokens": counts.total,
        "cache_read_tokens": counts.cache_read,
        "cache_write_tokens": counts.cache_write,
        "reasoning_tokens": counts.reasoning,
        "text_input_tokens": counts.text_input,
        "image_input_tokens": counts.image_input,
        "audio_input_tokens": counts.audio_input,
        "video_input_tokens": counts.video_input,
        "text_output_tokens": counts.text_output,
        "image_output_tokens": counts.image_output,
        "audio_output_tokens": counts.audio_output,
        "video_output_tokens": counts.video_output,
    }


def _lists(
    tree: Tree, calls: Sequence[SpanFacts], tools: Sequence[str | None], labels: TraceLabels
) -> TraceLists:
    spans = tree.spans
    return {
        "agents": _list(map(_agent, spans)) or _list(owning_agents(tree)),
        "models": _list([span.called_model for span in calls]),
        "response_models": _list([span.answering_model for span in calls]),
        "providers": _list([span.provider for span in calls]),
        "tools": _list(tools),
        "prompts": _list([span.prompt_version or span.prompt_name for span in spans]),
        "prompt_names": _list(map(_prompt_name, spans)),
        "linked_traces": _list([link.trace_id for span in spans if span.links for link in span.links]),
        "tags": _list([f"{name}={value}" if value else name for name, value in labels.over(spans)]),
    }


def _span_rows(
    tree: Tree, said: Tree, using: Counted, trace: TraceRecord, preview_characters: int
) -> Sequence[Row]:
    calls, tokens = frozenset(using.calls), frozenset(using.tokens)
    costs, tools = frozenset(using.costs), frozenset(using.tools)
    agents, self_ns = owning_agents(tree), self_times_ns(tree)
    experiment, trace_id = trace["experiment"], trace["trace_id"]
    trace_of_span = _trace_of_span(
        TraceOfSpan(
            of_trace=trace["name"],
            of_session=trace["session"],
            of_user=trace["user"],
            of_run=trace["run_id"],
        )
    )
    rows = []
    for position, span in enumerate(tree.spans):
        message, group = _error(span, preview_characters) if span.is_error else (None, None)
        within_trace: SpanWithinTrace = {
            "tags": json.dumps(span.tags) if span.tags else None,
            "links": json.dumps([(each.trace_id, each.span_id) for each in span.links])
            if span.links
            else None,
            "error_message": message,
            "error_group": group,
            "recovered_retry": span.is_recovered_retry if span.is_error else False,
            "model_call": position in calls,
            "tool_call": position in tools,
            "counts_tokens": (OWN if tokens_of(span) is span.tokens else RUN) if position in tokens else None,
            "counts_cost": position in costs,
            "self_ns": self_ns[position],
            "owning_agent": agents[position],
        }
        rows.append(
            (
                experiment,
                trace_id,
                int(span.span_id, 16),
                None if span.parent_span_id is None else int(span.parent_span_id, 16),
                *_facts_of(span),
                *_within_trace(within_trace),
                *trace_of_span,
                _own_facts(said.spans[position], span),
            )
        )
    return rows


def _facts_of(span: SpanFacts) -> Row:
    """Its FACT_COLUMNS."""
    own, aggregated = span.tokens, span.aggregated_tokens
    counts: Row = _NO_COUNTS if own is NO_TOKENS else _counts(own)
    counts += _NO_COUNTS if aggregated is NO_TOKENS else _counts(aggregated)
    before: Row = _before_counts(span)
    return before + counts + _behind_counts(span)


# what `united` changes
UNITED_TEXTS = ("model", "request_model", "response_model", "provider", "finish_reason", "prompt_version")
UNITED_TOKENS = ("tokens", "aggregated_tokens")
UNITED = (*UNITED_TEXTS, "cost_usd", "time_to_first_token_seconds", "input_excluded_cache")


def _own_facts(said: SpanFacts, counted: SpanFacts) -> str | None:
    """What the span says itself where its row says another thing; `_said_itself` reads it."""
    if said is counted:
        return None
    own: dict[str, Any] = {name: getattr(said, name) for name in UNITED}
    own |= {name: astuple(getattr(said, name)) for name in UNITED_TOKENS}
    return json.dumps({**own, "cost_source": said.cost_source.value})


def _said_itself(counted: SpanFacts, own_facts: str | None) -> SpanFacts:
    if own_facts is None:
        return counted
    own = json.loads(own_facts)
    names = [field.name for field in fields(Tokens)]
    # rows of earlier versions hold fewer kinds of counts
    tokens = {name: Tokens(**dict(zip(names, own.pop(name), strict=False))) for name in UNITED_TOKENS}
    return replace(counted, **own | tokens | {"cost_source": CostSource(own["cost_source"])})


def facts_of_row(trace_id: str, span_id: int, parent: int | None, row: Sequence[Any]) -> SpanFacts:
    """What a span says itself; `row` holds FACT_COLUMNS, the tags, links, error message and own facts."""
    known: dict[str, Any] = {fact: row[place] for fact, place in _PLACES if row[place] is not None}
    known.setdefault("name", "")
    known |= {sums: _tokens_of(row[counts]) for sums, counts in _SUMS}
    tags, links, message, own_facts = row[len(FACT_COLUMNS) :]
    known |= {
        "trace_id": trace_id,
        "span_id": f"{span_id:016x}",
        "parent_span_id": None if parent is None else f"{parent:016x}",
        "end_unix_ns": known["start_unix_ns"] + known.pop("duration_ns"),
        "kind": ObservationKind(known["kind"]),
        "cost_source": CostSource(known["cost_source"]),
        "tags": tuple((name, value) for name, value in json.loads(tags)) if tags else (),
        "links": _links_of(links) if links else (),
        "error_message": message,
    }
    return _said_itself(made_of(SpanFacts, known), own_facts)


def _tokens_of(counts: Sequence[Any]) -> Tokens:
    if tuple(counts) == _NO_COUNTS:
        return NO_TOKENS
    named = zip(TOKEN_KINDS, counts, strict=True)
    return made_of(Tokens, {kind: count for kind, count in named if count is not None})


def _links_of(pairs: str) -> tuple[SpanLink, ...]:
    return tuple(SpanLink(trace_id=trace, span_id=span) for trace, span in json.loads(pairs))


def pairs_of(tags: str | None) -> tuple[tuple[str, str], ...]:
    """The tags of a trace's row, as names and values."""
    listed = (tags or "").strip(SEPARATOR).split(SEPARATOR)
    parts = (tag.partition("=") for tag in listed if tag)
    return tuple((name, value) for name, _, value in parts)


def _list(values: Iterable[str | None]) -> str | None:
    """Each value once, the first MAX_LISTED of them."""
    found = dict.fromkeys(filter(None, values))
    if not found:
        return None
    return f"{SEPARATOR}{SEPARATOR.join(islice(found, MAX_LISTED))}{SEPARATOR}"


def _first_error(tree: Tree, preview_characters: int) -> tuple[str | None, str | None, str | None]:
    """Message, group and type of the error that tells most: one with a message, the deepest of its kind."""
    failed = [span for span in tree.spans if span.is_error and not span.is_recovered_retry]
    telling = [span for span in failed if span.error_message] or failed
    if not telling:
        return None, None, None
    return *_error(telling[-1], preview_characters), telling[-1].error_type


def _error(span: SpanFacts, preview_characters: int) -> tuple[str | None, str | None]:
    """The preview of a span's message, and the group that its error is in."""
    # the group follows from what is kept, so that it is the same when the trace is put together again
    message = (span.error_message or "")[:preview_characters] or None
    return message, (normal_message(message) if message else "") or span.error_type or "error"


def _time_to_first_token(calls: Sequence[SpanFacts], start_unix_ns: int) -> float | None:
    """Of the trace: from its start to the first word of its first model call that tells."""
    known = [
        (call.start_unix_ns - start_unix_ns) / 1e9 + call.time_to_first_token_seconds
        for call in calls
        if call.time_to_first_token_seconds is not None
    ]
    return min(known, default=None)
