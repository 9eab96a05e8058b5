"""A trace's spans -> its summary, by the counting rules. Pure.

1. tokens and cost: over the model calls that carry them, never over what repeats them (counting.py);
   two instrumentations' spans of one call are one call (same_call.py)
2. cached and reasoning tokens are parts of input and output, never added to them
3. an agent's own usage may be its last call only: model calls come first
   a tool's span right under its own is the same call again
4. an error is a span with status ERROR; the trace failed if its root did; recovered retries stand apart
5. the duration is from the first start to the last end; the root's own stands beside it
6. self time is a span minus the union of its children (tree.py), the critical path what the end waited for
7. a span that arrives twice is one span (tree.py)
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from collector.spans.conventions import ObservationKind
from collector.spans.critical_path import critical_path_ns
from collector.spans.labels import NO_LABELS, TraceLabels
from collector.spans.same_call import united
from collector.spans.summary_models import (
    Experiment,
    ModelUse,
    OwnTime,
    SpanError,
    SpanRow,
    ToolUse,
    TraceSummary,
)
from collector.spans.totals import Counted, add_costs, count, owning_agents, tokens_of, total
from collector.spans.tree import Tree, build_tree, self_times_ns
from collector.spans.values import NO_TOKENS, SpanFacts, add_tokens

NANOSECONDS = 1_000_000_000
MAX_SPANS = 1000
MAX_ERRORS = 50
MAX_GROUPS = 100


def summarise(
    spans: Iterable[SpanFacts],
    *,
    trace_id: str,
    experiment_id: str | None = None,
    experiment_name: str | None = None,
    incomplete: str | None = None,
    labels: TraceLabels = NO_LABELS,
    max_spans: int = MAX_SPANS,
    max_errors: int = MAX_ERRORS,
) -> TraceSummary:
    """The summary of the spans of one trace, in any order and however often each is there.

    `incomplete` is passed on: why spans may be lacking. `labels` is what MLflow holds of the trace itself.
    No spans at all is a summary of nothing.
    """
    tree = united(build_tree(spans))
    using = count(tree)
    whole = total(tree, using)
    models, tools = _models(tree, using), _tools(tree, using)
    self_ns, critical_ns = self_times_ns(tree), critical_path_ns(tree)
    failed = [span for span in tree.spans if span.is_error]
    return TraceSummary(
        trace_id=trace_id,
        name=whole.name or trace_id,
        status=whole.status,
        complete=tree.root_count > 0,
        incomplete=incomplete,
        experiment=Experiment(id=experiment_id, name=experiment_name),
        mlflow_path=mlflow_path(trace_id, experiment_id),
        start_unix_ns=whole.start_unix_ns,
        duration_seconds=_seconds(whole.end_unix_ns - whole.start_unix_ns),
        root_duration_seconds=_seconds(tree.spans[0].duration_ns) if tree.root_count else None,
        service=whole.service,
        service_version=whole.service_version,
        environment=whole.environment,
        agent=whole.agent,
        workflow=whole.workflow,
        session=labels.session or whole.session,
        user=labels.user or whole.user,
        span_count=len(tree.spans),
        model_call_count=whole.model_call_count,
        tool_call_count=len(using.tools),
        error_span_count=whole.error_span_count,
        recovered_retry_count=whole.recovered_retry_count,
        missing_parents=tree.missing_parents,
        tokens=whole.tokens,
        input_excluded_cache=any(tree.spans[position].input_excluded_cache for position in using.tokens),
        cost=whole.cost,
        models=models[:MAX_GROUPS],
        models_omitted=max(0, len(models) - MAX_GROUPS),
        tools=tools[:MAX_GROUPS],
        tools_omitted=max(0, len(tools) - MAX_GROUPS),
        own_time=_own_time(tree, self_ns, critical_ns),
        errors=tuple(_error(span) for span in failed[:max_errors]),
        errors_omitted=max(0, len(failed) - max_errors),
        spans=_rows(tree, using, self_ns, critical_ns, begin=whole.start_unix_ns, limit=max_spans),
        spans_omitted=max(0, len(tree.spans) - max_spans),
    )


def mlflow_path(trace_id: str, experiment_id: str | None) -> str | None:
    """Where MLflow's own UI shows the trace, as MLflow 3.17's links are made; None without experiment."""
    if experiment_id is None:
        return None
    experiment, trace = quote(experiment_id, safe=""), quote(trace_id, safe="")
    return f"/#/experiments/{experiment}/traces?selectedEvaluationId=tr-{trace}"


def _models(tree: Tree, using: Counted) -> tuple[ModelUse, ...]:
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
            tokens=add_tokens(tokens_of(span) for span in tokens.get((model, provider), ())),
            cost_usd=add_costs(costs.get((model, provider), ())),
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
        groups[span.called_model, span.provider].append(span)
    return groups


def _tools(tree: Tree, using: Counted) -> tuple[ToolUse, ...]:
    groups: dict[str | None, list[SpanFacts]] = defaultdict(list)
    for position in using.tools:
        groups[tree.spans[position].tool].append(tree.spans[position])
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


def _own_time(tree: Tree, self_ns: Sequence[int], critical_ns: Sequence[int]) -> tuple[OwnTime, ...]:
    """By kind, the most first."""
    own: Counter[ObservationKind] = Counter()
    critical: Counter[ObservationKind] = Counter()
    for span, spent, on_path in zip(tree.spans, self_ns, critical_ns, strict=True):
        own[span.kind] += spent
        critical[span.kind] += on_path
    return tuple(
        OwnTime(kind=kind, self_seconds=_seconds(spent), critical_seconds=_seconds(critical[kind]))
        for kind, spent in own.most_common()
    )


def _rows(
    tree: Tree,
    using: Counted,
    self_ns: Sequence[int],
    critical_ns: Sequence[int],
    *,
    begin: int,
    limit: int,
) -> tuple[SpanRow, ...]:
    with_tokens = {*using.tokens, *using.calls}
    agents = owning_agents(tree)
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
            critical_seconds=_seconds(critical_ns[position]),
            agent=agents[position],
            model=span.model,
            tool=span.tool,
            tokens=tokens_of(span) if position in with_tokens else NO_TOKENS,
            cost_usd=span.cost_usd,
            cost_source=span.cost_source,
            time_to_first_token_seconds=span.time_to_first_token_seconds,
            finish_reason=span.finish_reason,
            error_type=span.error_type,
            error_message=span.error_message,
            links=span.links,
        )
        for position, span in enumerate(tree.spans[:limit])
    )


def _seconds(nanoseconds: int) -> float:
    return nanoseconds / NANOSECONDS
