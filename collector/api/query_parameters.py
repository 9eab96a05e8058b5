"""What the OpenAPI document says of the parameters of questions about many traces.

Their names come from the code that reads them (index/queries).
"""

from collections.abc import Iterable, Sequence

from collector.api.own_route import Parameter
from collector.index.queries.stats import ENTITIES

ONCE = frozenset({"since", "until", "min_duration_seconds", "max_duration_seconds", "min_cost_usd"})
FILTERS = {
    "experiment_id": "Experiment ID",
    "experiment_name": "Experiment name",
    "since": "Start of the time range: relative (-1h, -30m, -7d), ISO 8601, or a Unix timestamp",
    "until": "End of the time range, exclusive; same formats as since",
    "min_duration_seconds": "Minimum duration in seconds",
    "max_duration_seconds": "Maximum duration in seconds",
    "min_cost_usd": "Minimum cost in US dollars",
    "status": "OK, ERROR or UNKNOWN; for spans, model calls, tool calls and errors, the status of the span",
    "trace_status": "Status of the trace that the span belongs to: OK, ERROR or UNKNOWN",
    "name": "Trace name; like every text filter, it may end in * to match a prefix",
    "span": "Span name",
    "kind": "Span kind: LLM, TOOL, AGENT, …",
    "service": "Service name (service.name)",
    "version": "Service version (service.version)",
    "environment": "Deployment environment",
    "agent": "Agent name",
    "model": "Name of the requested model (gen_ai.request.model)",
    "response_model": "Name of the model that answered (gen_ai.response.model); none for a failed call",
    "provider": "Model provider",
    "tool": "Tool name",
    "prompt": "Version of a prompt, or its name if the version is unknown",
    "prompt_name": "Prompt name",
    "links_to": "Id of a trace that a span of the trace links to (`Span.links`)",
    "session": "Session ID",
    "user": "User ID",
    "run_id": "MLflow run ID",
    "error": "Error group, as listed by /-/traces/errors",
    "tag": "Tag as name=value, or a tag name for any value",
    "score": "Traces with a score: its name, NAME=label, or NAME with >, >=, < or <= and a number "
    "(helpful<0.5). For scores, the scores themselves",
    "trace_score": "For scores: those of traces with a score like this; as score",
    "label": "Label of the score",
    "source": "Evaluator or person that gave the score",
    "judge": "Kind of that source: HUMAN, LLM_JUDGE or CODE",
}
BUCKET = Parameter(
    name="bucket", description="Width of the time buckets, such as 5m or 1h, or auto; default: no time series"
)


def _listed(what: str) -> str:
    return ". ".join(f"For {name}: {', '.join(getattr(entity, what))}" for name, entity in ENTITIES.items())


STATISTICS = (
    Parameter(name="of", description=f"What to count: {', '.join(ENTITIES)}; default traces"),
    Parameter(name="metric", description=f"Metric. {_listed('metrics')}", repeated=True),
    Parameter(name="by", description=f"Dimension to group by. {_listed('dimensions')}", repeated=True),
    Parameter(name="top", description="Maximum number of groups, 1 to 1,000; default 20"),
    Parameter(
        name="order",
        description="Requested metric or dimension to sort groups by; a leading - sorts in descending order",
    ),
    BUCKET,
)


def filters(names: Sequence[str]) -> tuple[Parameter, ...]:
    """The filters with these names. A filter given more than once matches any of its values."""
    return tuple(Parameter(name=name, description=FILTERS[name], repeated=name not in ONCE) for name in names)


def table(sorts: Iterable[str], *, paged: bool = True) -> tuple[Parameter, ...]:
    """How rows are sorted, paged and formatted."""
    cursor = Parameter(name="cursor", description="next_cursor of the previous page")
    return (
        Parameter(
            name="sort",
            description=f"Sort by one of {', '.join(sorts)}; a leading - sorts in descending order",
        ),
        Parameter(
            name="limit",
            description="Maximum number of rows, 1 to 1,000; default 100. Files: up to 1,000,000",
        ),
        *((cursor,) if paged else ()),
        Parameter(name="format", description="json, csv or parquet; default json"),
    )
