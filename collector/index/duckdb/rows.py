"""The spans of one trace -> its rows in the index, and back. Pure.

    SpanFacts … -> tree -> what counts for what -> a row of `traces`, rows of `spans`

Whatever the order and however often each span is there, the rows are the same.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from collector.index.duckdb.columns import FACT_COLUMNS, SEPARATOR
from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.error_groups import normal_message
from collector.spans.totals import Counted, count, owning_agents, tokens_of, total
from collector.spans.tree import Tree, build_tree, self_times_ns
from collector.spans.values import SpanFacts, Tokens

Row = tuple[Any, ...]
MAX_LISTED = 20
TRUNCATED = frozenset({"length", "max_tokens", "max_output_tokens"})
_facts_of = attrgetter(*(column.fact for column in FACT_COLUMNS))
_tokens_in = attrgetter("input", "output", "total", "cache_read", "cache_write", "reasoning")
# which of a span's sums of tokens is counted: of its own call, or over the run below it
OWN, RUN = "own", "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRows:
    """The rows of one trace."""

    trace: Row
    spans: Sequence[Row]


def trace_rows(
    spans: Iterable[SpanFacts],
    *,
    experiment: int,
    run_id: str | None,
    seen_unix_ns: int,
    preview_characters: int,
) -> TraceRows:
    """The rows of a trace with at least one span. `preview_characters` bounds what is kept of messages."""
    tree = build_tree(spans)
    using = count(tree)
    whole = total(tree, using)
    listed = tree.spans
    calls = [listed[position] for position in using.calls]
    tools = [listed[position].tool for position in using.tools]
    message, group, type = _first_error(tree, preview_characters)
    trace = (
        experiment,
        listed[0].trace_id,
        min(span.start_unix_ns for span in listed),
        whole.start_unix_ns,
        whole.end_unix_ns - whole.start_unix_ns,
        listed[0].duration_ns if tree.root_count else None,
        seen_unix_ns,
        whole.name or listed[0].trace_id,
        whole.status.value,
        tree.root_count > 0,
        tree.missing_parents,
        whole.service,
        whole.service_version,
        whole.environment,
        whole.agent,
        _list(span.agent for span in listed),
        whole.workflow,
        whole.session,
        whole.user,
        run_id,
        _list(span.model for span in calls),
        _list(span.provider for span in calls),
        _list(tools),
        _list(span.prompt_version for span in listed),
        _list(f"{name}={value}" if value else name for span in listed for name, value in span.tags),
        len(listed),
        whole.model_call_count,
        len(tools),
        whole.error_span_count,
        whole.recovered_retry_count,
        sum(span.finish_reason in TRUNCATED for span in calls),
        *_tokens_in(whole.tokens),
        whole.cost.usd,
        "mixed" if whole.cost.source is None else whole.cost.source.value,
        whole.cost.unpriced_model_calls,
        _time_to_first_token(calls, whole.start_unix_ns),
        type,
        message,
        group,
    )
    about = (whole.name or listed[0].trace_id, whole.session, whole.user, run_id)
    return TraceRows(trace=trace, spans=_span_rows(tree, using, experiment, preview_characters, about))


def _span_rows(
    tree: Tree, using: Counted, experiment: int, preview_characters: int, about: Row
) -> Sequence[Row]:
    calls, tokens = frozenset(using.calls), frozenset(using.tokens)
    costs, tools = frozenset(using.costs), frozenset(using.tools)
    agents, self_ns = owning_agents(tree), self_times_ns(tree)
    rows = []
    for position, span in enumerate(tree.spans):
        message, group = _error(span, preview_characters) if span.is_error else (None, None)
        rows.append(
            (
                experiment,
                span.trace_id,
                int(span.span_id, 16),
                None if span.parent_span_id is None else int(span.parent_span_id, 16),
                *_facts_of(span),
                json.dumps(span.tags) if span.tags else None,
                message,
                group,
                span.is_recovered_retry if span.is_error else False,
                position in calls,
                position in tools,
                (OWN if tokens_of(span) is span.tokens else RUN) if position in tokens else None,
                position in costs,
                self_ns[position],
                agents[position],
                *about,
            )
        )
    return rows


def facts_of_row(trace_id: str, span_id: int, parent: int | None, row: Sequence[Any]) -> SpanFacts:
    """The facts again; `row` holds FACT_COLUMNS, the tags and the error message."""
    known = {
        column.fact: value for column, value in zip(FACT_COLUMNS, row, strict=False) if value is not None
    }
    tokens = {
        sums: Tokens(**{each.name: known.pop(f"{sums}.{each.name}", None) for each in fields(Tokens)})
        for sums in ("tokens", "aggregated_tokens")
    }
    tags, message = row[len(FACT_COLUMNS) :]
    known["end_unix_ns"] = known["start_unix_ns"] + known.pop("duration_ns")
    enums = {"kind": ObservationKind(known["kind"]), "cost_source": CostSource(known["cost_source"])}
    return SpanFacts(
        **{"name": ""} | known | tokens | enums,
        trace_id=trace_id,
        span_id=f"{span_id:016x}",
        parent_span_id=None if parent is None else f"{parent:016x}",
        tags=tuple((name, value) for name, value in json.loads(tags)) if tags else (),
        error_message=message,
    )


def _list(values: Iterable[str | None]) -> str | None:
    """Each value once, the first MAX_LISTED of them."""
    found = list(dict.fromkeys(filter(None, values)))[:MAX_LISTED]
    return f"{SEPARATOR}{SEPARATOR.join(found)}{SEPARATOR}" if found else None


def _first_error(tree: Tree, preview_characters: int) -> tuple[str | None, str | None, str | None]:
    """Message, group and type of the error that tells most: one with a message, the deepest of its kind."""
    failed = [span for span in tree.spans if span.is_error and not span.is_recovered_retry]
    if not failed:
        return None, None, None
    telling = [span for span in failed if span.error_message] or failed
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
