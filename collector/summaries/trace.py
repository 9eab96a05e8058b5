"""A trace's spans -> its summary, by the counting rules. Pure.

1. tokens and cost: over the model calls that carry them, never over what repeats them (counting.py)
2. cached and reasoning tokens are parts of input and output, never added to them
3. an agent's own usage may be its last call only: model calls come first
   a tool's span right under its own is the same call again
4. an error is a span with status ERROR; the trace failed if its root did; recovered retries stand apart
5. the duration is from the first start to the last end; the root's own stands beside it
6. self time is a span minus the union of its children (tree.py)
7. a span that arrives twice is one span (tree.py)
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from collector.index.conventions import CostSource, Kind
from collector.index.facts import NO_TOKENS, SpanFacts, Tokens, add_tokens
from collector.summaries.counting import MODEL_KINDS, counted, model_calls
from collector.summaries.models import (
    Cost,
    Experiment,
    ModelUse,
    SpanError,
    SpanRow,
    ToolUse,
    TraceStatus,
    TraceSummary,
)
from collector.summaries.tree import Tree, build_tree, self_times_ns

NANOSECONDS = 1_000_000_000
MAX_SPANS = 1000
MAX_ERRORS = 50
MAX_GROUPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """Positions in the tree: model calls, and the spans whose tokens and costs are added up."""

    calls: Sequence[int]
    tokens: Sequence[int]
    costs: Sequence[int]


def summarise(
    spans: Iterable[SpanFacts],
    *,
    trace_id: str,
    experiment_id: str | None = None,
    experiment_name: str | None = None,
    incomplete: str | None = None,
    max_spans: int = MAX_SPANS,
    max_errors: int = MAX_ERRORS,
) -> TraceSummary:
    """The summary of the spans of one trace, in any order and however often each is there.

    `incomplete` is passed on: why spans may be lacking. No spans at all is a summary of nothing.
    """
    tree = build_tree(spans)
    using = _Counted(
        calls=model_calls(tree),
        tokens=counted(tree, lambda span: _tokens_of(span).known),
        costs=counted(tree, lambda span: span.cost_usd is not None),
    )
    begin, end = _bounds(tree)
    failed = [span for span in tree.spans if span.is_error]
    recovered = sum(span.is_recovered_retry for span in failed)
    models, tools = _models(tree, using), _tools(tree)
    return TraceSummary(
        trace_id=trace_id,
        name=_name(tree) or trace_id,
        status=_status(tree),
        complete=tree.root_count > 0,
        incomplete=incomplete,
        experiment=Experiment(id=experiment_id, name=experiment_name),
        mlflow_path=mlflow_path(trace_id, experiment_id),
        start_unix_ns=begin,
        duration_seconds=_seconds(end - begin),
        root_duration_seconds=_seconds(tree.spans[0].duration_ns) if tree.root_count else None,
        service=_first(span.service for span in tree.spans),
        service_version=_first(span.service_version for span in tree.spans),
        environment=_first(span.environment for span in tree.spans),
        agent=_first(span.agent for span in tree.spans),
        workflow=_first(span.workflow for span in tree.spans),
        session=_session(tree),
        user=_first(span.user for span in tree.spans),
        span_count=len(tree.spans),
        model_call_count=sum(tree.spans[call].kind is Kind.LLM for call in using.calls),
        tool_call_count=len(_tool_calls(tree)),
        error_span_count=len(failed) - recovered,
        recovered_retry_count=recovered,
        missing_parents=tree.missing_parents,
        tokens=add_tokens(_tokens_of(tree.spans[position]) for position in using.tokens),
        input_excluded_cache=any(tree.spans[position].input_excluded_cache for position in using.tokens),
        cost=_cost(tree, using),
        models=models[:MAX_GROUPS],
        models_omitted=max(0, len(models) - MAX_GROUPS),
        tools=tools[:MAX_GROUPS],
        tools_omitted=max(0, len(tools) - MAX_GROUPS),
        errors=tuple(_error(span) for span in failed[:max_errors]),
        errors_omitted=max(0, len(failed) - max_errors),
        spans=_rows(tree, using, begin=begin, limit=max_spans),
        spans_omitted=max(0, len(tree.spans) - max_spans),
    )


def mlflow_path(trace_id: str, experiment_id: str | None) -> str | None:
    """Where MLflow's own UI shows the trace, as MLflow 3.17's links are made; None without experiment."""
    if experiment_id is None:
        return None
    experiment, trace = quote(experiment_id, safe=""), quote(trace_id, safe="")
    return f"/#/experiments/{experiment}/traces?selectedEvaluationId=tr-{trace}"


def _tokens_of(span: SpanFacts) -> Tokens:
    """What a span's tokens are: on a model call its own, elsewhere a sum over the run if there is one."""
    if span.kind in MODEL_KINDS:
        return span.tokens if span.tokens.known else span.aggregated_tokens
    return span.aggregated_tokens if span.aggregated_tokens.known else span.tokens


def _add_costs(spans: Iterable[SpanFacts]) -> float | None:
    costs = [span.cost_usd for span in spans if span.cost_usd is not None]
    # fsum doesn't depend on the order; below a millionth of a millionth is only how floats are written
    return round(math.fsum(costs), 12) if costs else None


def _cost(tree: Tree, using: _Counted) -> Cost:
    sources = {tree.spans[position].cost_source for position in using.costs}
    priced = _under(tree, using.costs)
    return Cost(
        usd=_add_costs(tree.spans[position] for position in using.costs),
        source=CostSource.NONE if not sources else sources.pop() if len(sources) == 1 else None,
        unpriced_model_calls=sum(not priced[call] for call in using.calls),
    )


def _under(tree: Tree, positions: Sequence[int]) -> list[bool]:
    """For each span whether it, or a span above it, is among `positions`."""
    covered = [False] * len(tree.spans)
    for position in positions:
        covered[position] = True
    for position, parent in enumerate(tree.parents):
        if parent is not None and covered[parent]:
            covered[position] = True
    return covered


def _name(tree: Tree) -> str | None:
    """The root's name; below a web server's span the first agent's or model call's (mlflow#19730)."""
    if given := _first(span.trace_name for span in tree.spans):
        return given
    if not tree.spans or not tree.spans[0].is_http:
        return _first(span.name for span in tree.spans)
    telling = (span.name for span in tree.spans if span.kind in (Kind.AGENT, Kind.LLM))
    return _first(telling) or tree.spans[0].name


def _status(tree: Tree) -> TraceStatus:
    if not tree.root_count:
        return TraceStatus.UNKNOWN
    failed = any(tree.spans[position].is_error for position in tree.tops[: tree.root_count])
    return TraceStatus.ERROR if failed else TraceStatus.OK


def _session(tree: Tree) -> str | None:
    """What a client named as the session, on the root first; else the conversation id of a run."""
    return _first(span.session for span in tree.spans) or _first(span.conversation for span in tree.spans)


def _bounds(tree: Tree) -> tuple[int, int]:
    """First start and last end, in nanoseconds since 1970; spans without any time don't count."""
    timed = [span for span in tree.spans if span.start_unix_ns]
    if not timed:
        return 0, 0
    return min(span.start_unix_ns for span in timed), max(span.end_unix_ns for span in timed)


def _models(tree: Tree, using: _Counted) -> tuple[ModelUse, ...]:
    calls = _grouped(tree, using.calls)
    tokens = _grouped(tree, using.tokens)
    costs = _grouped(tree, using.costs)
    rows = [
        ModelUse(
            model=model,
            provider=provider,
            calls=len(calls.get((model, provider), ())),
            errors=sum(span.is_error for span in calls.get((model, provider), ())),
            duration_seconds=_seconds(sum(span.duration_ns for span in calls.get((model, provider), ()))),
            tokens=add_tokens(_tokens_of(span) for span in tokens.get((model, provider), ())),
            cost_usd=_add_costs(costs.get((model, provider), ())),
        )
        for model, provider in {**calls, **tokens, **costs}
    ]
    return tuple(sorted(rows, key=lambda row: (-row.calls, row.model or "", row.provider or "")))


def _grouped(
    tree: Tree, positions: Sequence[int]
) -> Mapping[tuple[str | None, str | None], Sequence[SpanFacts]]:
    groups: dict[tuple[str | None, str | None], list[SpanFacts]] = defaultdict(list)
    for position in positions:
        span = tree.spans[position]
        groups[span.model, span.provider].append(span)
    return groups


def _tool_calls(tree: Tree) -> list[SpanFacts]:
    """One span a call: a tool's span right under its own (an MCP client's, say) is the same call again."""
    calls = []
    for span, parent in zip(tree.spans, tree.parents, strict=True):
        above = None if parent is None else tree.spans[parent]
        again = above is not None and above.kind is Kind.TOOL and above.tool == span.tool
        if span.kind is Kind.TOOL and not again:
            calls.append(span)
    return calls


def _tools(tree: Tree) -> tuple[ToolUse, ...]:
    groups: dict[str | None, list[SpanFacts]] = defaultdict(list)
    for span in _tool_calls(tree):
        groups[span.tool].append(span)
    rows = [
        ToolUse(
            tool=tool,
            calls=len(calls),
            errors=sum(span.is_error and not span.is_recovered_retry for span in calls),
            recovered_retries=sum(span.is_recovered_retry for span in calls),
            duration_seconds=_seconds(sum(span.duration_ns for span in calls)),
        )
        for tool, calls in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.calls, row.tool or "")))


def _error(span: SpanFacts) -> SpanError:
    return SpanError(
        span_id=span.span_id,
        name=span.name,
        kind=span.kind,
        type=span.error_type,
        message=span.error_message,
        recovered=span.is_recovered_retry,
    )


def _rows(tree: Tree, using: _Counted, *, begin: int, limit: int) -> tuple[SpanRow, ...]:
    self_ns = self_times_ns(tree)
    with_tokens = {*using.tokens, *using.calls}
    agents = _owning_agents(tree)
    return tuple(
        SpanRow(
            span_id=span.span_id,
            parent_span_id=span.parent_span_id,
            depth=tree.depths[position],
            name=span.name,
            kind=span.kind,
            is_error=span.is_error,
            recovered_retry=span.is_recovered_retry,
            start_offset_seconds=_seconds(max(0, span.start_unix_ns - begin)),
            duration_seconds=_seconds(span.duration_ns),
            self_seconds=_seconds(self_ns[position]),
            agent=agents[position],
            model=span.model,
            tool=span.tool,
            tokens=_tokens_of(span) if position in with_tokens else NO_TOKENS,
            cost_usd=span.cost_usd,
            cost_source=span.cost_source,
            time_to_first_token_seconds=span.time_to_first_token_seconds,
            finish_reason=span.finish_reason,
            error_type=span.error_type,
            error_message=span.error_message,
        )
        for position, span in enumerate(tree.spans[:limit])
    )


def _owning_agents(tree: Tree) -> list[str | None]:
    """Each span's agent: its own word, else that of the nearest span above."""
    agents: list[str | None] = []
    for span, parent in zip(tree.spans, tree.parents, strict=True):
        agents.append(span.agent or (None if parent is None else agents[parent]))
    return agents


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)


def _seconds(nanoseconds: int) -> float:
    return nanoseconds / NANOSECONDS
