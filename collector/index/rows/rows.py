"""The spans of one trace -> its rows in the index, and back. Pure.

    SpanFacts … -> tree -> what counts for what -> a row of `traces`, rows of `spans`

Whatever the order and however often each span is there, the rows are the same.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from operator import add, attrgetter
from typing import Any

from collector.index.rows.columns import FACT_COLUMNS, SPAN_COLUMNS, TRACE_COLUMNS
from collector.index.rows.form import OWN_FACTS, Row, TraceForm, form_of, in_order, listing, values_of
from collector.index.rows.records import GivenOfTrace, TokensOfTrace, TraceOfSpan, TraceRecord
from collector.index.sql.columns import SEPARATOR
from collector.spans.conventions import TOKEN_KINDS, CostSource, ObservationKind
from collector.spans.error_groups import normal_message
from collector.spans.labels import NO_LABELS, TraceLabels
from collector.spans.same_call import united
from collector.spans.score_facts import ScoreFact
from collector.spans.totals import add_costs, bounds, first_of, name_of, session_of, tokens_of
from collector.spans.tree import Tree, build_tree, self_times_ns
from collector.spans.values import NO_TOKENS, SpanFacts, SpanLink, Tokens, add_tokens, made_of

_FACTS = tuple(column.fact for column in FACT_COLUMNS)
# the counts stand together, as the fields of Tokens; most spans have none
_FIRST_COUNT = _FACTS.index("tokens.input")
_counts = attrgetter(*TOKEN_KINDS)
_start = attrgetter("start_unix_ns")
_NO_COUNTS = (None,) * len(TOKEN_KINDS)
_FIRST_SUM, _SECOND_SUM = _FIRST_COUNT + len(TOKEN_KINDS), _FIRST_COUNT + 2 * len(TOKEN_KINDS)
# where a row holds the sums of tokens, and where its other facts
_SUMS = (
    ("tokens", slice(_FIRST_COUNT, _FIRST_SUM)),
    ("aggregated_tokens", slice(_FIRST_SUM, _SECOND_SUM)),
)
_PLACES = tuple((fact, place) for place, fact in enumerate(_FACTS) if not _FIRST_COUNT <= place < _SECOND_SUM)
_OWN = [fact for fact in _FACTS if fact in OWN_FACTS]
_before_counts, _behind_counts = (
    attrgetter(*[fact for fact in _OWN if (_FACTS.index(fact) < _FIRST_COUNT) is before])
    for before in (True, False)
)
_NOTHING = (None,) * 4
_trace_row = values_of(TraceRecord, TRACE_COLUMNS)
# of a row of `spans` what it says of its trace stands before its own facts
_trace_of_span = values_of(TraceOfSpan, SPAN_COLUMNS[-1 - len(TraceOfSpan.__annotations__) : -1])


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
    """The rows of one trace: TRACE_COLUMNS, and of each span OWN_COLUMNS and REPEATED_COLUMNS (form.py).

    Traces of the same form share the object that `repeated` is.
    """

    trace: Row
    own: Sequence[Row]
    repeated: Sequence[Row]

    @property
    def spans(self) -> Sequence[Row]:
        """The rows of its spans, with SPAN_COLUMNS."""
        return list(map(in_order, map(add, self.own, self.repeated)))


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
    form = form_of(tree)
    given = GivenOfTrace(experiment=experiment, run_id=run_id, seen_unix_ns=seen_unix_ns)
    trace = _trace_record(tree, form, preview_characters, labels, given)
    own = _own_rows(tree, said, trace, preview_characters)
    return TraceRows(trace=_trace_row(trace), own=own, repeated=form.spans)


def _trace_record(
    tree: Tree, form: TraceForm, preview_characters: int, labels: TraceLabels, given: GivenOfTrace
) -> TraceRecord:
    message, group, type = _first_error(tree, preview_characters)
    listed, using = tree.spans, form.using
    start, end = bounds(tree)
    return {
        **given,
        **form.trace,
        "trace_id": listed[0].trace_id,
        "low_ns": min(map(_start, listed)),
        "start_unix_ns": start,
        "duration_ns": end - start,
        "root_duration_ns": listed[0].duration_ns if tree.root_count else None,
        "name": name_of(tree) or listed[0].trace_id,
        "session": labels.session or session_of(tree),
        "user": labels.user or first_of("user", listed),
        "linked_traces": listing([link.trace_id for span in listed if span.links for link in span.links]),
        "tags": listing([f"{name}={value}" if value else name for name, value in labels.over(listed)]),
        **_tokens(add_tokens([tokens_of(listed[position]) for position in using.tokens])),
        "cost_usd": add_costs([listed[position] for position in using.costs]),
        "time_to_first_token_seconds": _time_to_first_token([listed[each] for each in using.calls], start),
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


def _own_rows(tree: Tree, said: Tree, trace: TraceRecord, preview_characters: int) -> Sequence[Row]:
    """The OWN_COLUMNS of each span."""
    trace_of_span = _trace_of_span(
        TraceOfSpan(
            of_trace=trace["name"],
            of_session=trace["session"],
            of_user=trace["user"],
            of_run=trace["run_id"],
        )
    )
    ids = trace["experiment"], trace["trace_id"]
    return [
        (
            *ids,
            int(span.span_id, 16),
            None if span.parent_span_id is None else int(span.parent_span_id, 16),
            *_before_counts(span),
            *_counts_of(span),
            *_behind_counts(span),
            *(_seldom(span, preview_characters) if span.is_error or span.tags or span.links else _NOTHING),
            self_ns,
            *trace_of_span,
            _own_facts(itself, span),
        )
        for span, itself, self_ns in zip(tree.spans, said.spans, self_times_ns(tree), strict=True)
    ]


def _counts_of(span: SpanFacts) -> Row:
    """Its tokens, and their sums over a run."""
    own, aggregated = span.tokens, span.aggregated_tokens
    if own is aggregated:  # nobody said, as on most spans
        return _NO_COUNTS + _NO_COUNTS
    counts: Row = _NO_COUNTS if own is NO_TOKENS else _counts(own)
    return counts + (_NO_COUNTS if aggregated is NO_TOKENS else _counts(aggregated))


def _seldom(span: SpanFacts, preview_characters: int) -> Row:
    """What most spans don't have: tags, links, an error's message and its group."""
    return (
        json.dumps(span.tags) if span.tags else None,
        json.dumps([(each.trace_id, each.span_id) for each in span.links]) if span.links else None,
        *(_error(span, preview_characters) if span.is_error else (None, None)),
    )


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
