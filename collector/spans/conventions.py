"""The table from attributes to facts: one row a fact, its sources left to right. Pure.

The first source that is there and can be read wins. A convention that is new to us is one more source in
the rows it has something to say about; nothing else changes.

    gen_ai.*               OpenTelemetry GenAI, current and older names, pydantic-ai
    pydantic_ai.*          pydantic-ai's retries, attempts and decisions
    llm.* decision.* ...   OpenInference
    traceloop.* llm.usage  OpenLLMetry / Traceloop
    ai.*                   Vercel AI SDK
    langfuse.* lmnr.*      Langfuse, Laminar
    mlflow.*               MLflow's own SDK, and what MLflow adds when a trace is read back
    span.type, bare names  Claude Code

How a value is read is in readers.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class ObservationKind(StrEnum):
    """What a span does."""

    LLM = "LLM"
    TOOL = "TOOL"
    AGENT = "AGENT"
    CHAIN = "CHAIN"
    RETRIEVER = "RETRIEVER"
    EMBEDDING = "EMBEDDING"
    RERANKER = "RERANKER"
    GUARDRAIL = "GUARDRAIL"
    EVALUATOR = "EVALUATOR"
    WORKFLOW = "WORKFLOW"
    DECISION = "DECISION"
    TASK = "TASK"
    MEMORY = "MEMORY"
    OTHER = "OTHER"

    # as fast as that of any text, which it equals; an enum's own is a call of a function
    __hash__ = str.__hash__


class CostSource(StrEnum):
    """Who computed a cost: the client, MLflow, or the public price list (prices.py)."""

    CLIENT = "client"
    MLFLOW = "mlflow"
    TABLE = "table"
    NONE = "none"

    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True)
class Source:
    """One attribute that a fact may stand in.

    `part` is the member to take where the attribute is an object (or JSON text of one), with dots for members
    of members; `only` limits the source to spans of one kind; `divisor` turns its unit into ours;
    `excludes_cache` marks an input count that always leaves out what came from or went to the cache.
    """

    key: str
    part: str = ""
    only: ObservationKind | None = None
    divisor: int = 1
    cost: CostSource = CostSource.CLIENT
    excludes_cache: bool = False


Row = tuple[Source, ...]


def row(*sources: str | Source) -> Row:
    """A row of the table; a bare name is an attribute that is read as it stands."""
    return tuple(Source(each) if isinstance(each, str) else each for each in sources)


# what a token may stand for; and what Gemini calls the two ways, which pydantic-ai copies
MODALITIES = ("text", "image", "audio", "video")
GEMINI_INPUT, GEMINI_OUTPUT = ("prompt",), ("candidates", "response")


def _by_modality() -> Iterator[tuple[str, Row]]:
    """The rows of tokens by modality, such as `audio_input_tokens`: parts of the input and of the output."""
    for direction, details, gemini in (
        ("input", "prompt_details", GEMINI_INPUT),
        ("output", "completion_details", GEMINI_OUTPUT),
    ):
        for modality in MODALITIES:
            name = f"{modality}_{direction}_tokens"
            yield (
                name,
                row(
                    f"gen_ai.usage.{modality}.{direction}_tokens",
                    f"llm.token_count.{details}.{modality}",
                    f"gen_ai.usage.details.{direction}_{modality}_tokens",
                    *(f"gen_ai.usage.details.{modality}_{each}_tokens" for each in gemini),
                    f"gen_ai.usage.{direction}_{modality}_tokens",  # LiveKit
                    Source("langfuse.observation.usage_details", part=name),
                    Source("gen_ai.usage.raw", part=name),
                ),
            )


# fact -> where it stands in the span's attributes
TABLE: Mapping[str, Row] = {
    "request_model": row(
        "gen_ai.request.model",
        "llm.request.model_name",
        "ai.model.id",
        "decision.request.model_name",
        # the request as OpenInference copies it, where its `llm.model_name` is the answer's
        Source("llm.invocation_parameters", part="model", only=ObservationKind.LLM),
        # MLflow's autologging writes each argument of a call under its own name; Claude Code does likewise
        Source("model", only=ObservationKind.LLM),
    ),
    "response_model": row(
        "gen_ai.response.model",
        "llm.response.model_name",
        "ai.response.model",
        "decision.response.model_name",
    ),
    "model": row(
        "gen_ai.response.model",
        "llm.response.model_name",
        "mlflow.llm.model",
        "gen_ai.request.model",
        "llm.model_name",
        "llm.request.model_name",
        "ai.response.model",
        "ai.model.id",
        "langfuse.observation.model.name",
        "embedding.model_name",
        "decision.response.model_name",
        "decision.request.model_name",
        "decision.model_name",
        Source("model_name", only=ObservationKind.AGENT),
        Source("model", only=ObservationKind.LLM),
        Source("llm.invocation_parameters", part="model"),
    ),
    "provider": row(
        "gen_ai.provider.name",
        "gen_ai.system",
        "llm.provider",
        "llm.system",
        "mlflow.llm.provider",
        "ai.model.provider",
        "decision.provider",
        "decision.system",
    ),
    "agent": row(
        "gen_ai.agent.name",
        "agent.name",
        "agent_name",
        Source("traceloop.entity.name", only=ObservationKind.AGENT),
        Source("lmnr.span.path", part="-1", only=ObservationKind.AGENT),
        Source("graph.node.name", only=ObservationKind.AGENT),
        Source("graph.node.id", only=ObservationKind.AGENT),
        "traceloop.association.properties.lc_agent_name",
        "langfuse.observation.metadata.lc_agent_name",
        Source("metadata", part="lc_agent_name"),
    ),
    "tool": row(
        "gen_ai.tool.name",
        "tool.name",
        "ai.toolCall.name",
        Source("traceloop.entity.name", only=ObservationKind.TOOL),
        Source("tool_name", only=ObservationKind.TOOL),
    ),
    "workflow": row("gen_ai.workflow.name", "traceloop.workflow.name"),
    "conversation": row("gen_ai.conversation.id"),
    "session": row(
        "sidespan.session.id",
        "mlflow.trace.session",
        "session.id",
        "langfuse.session.id",
        "traceloop.association.properties.session_id",
        "lmnr.association.properties.session_id",
        "ai.telemetry.metadata.sessionId",
        "ai.settings.context.sessionId",
        "mastra.metadata.sessionId",
        "traceloop.association.properties.thread_id",
    ),
    "user": row(
        "sidespan.user.id",
        "user.id",
        "mlflow.trace.user",
        "langfuse.user.id",
        "enduser.id",
        "traceloop.association.properties.user_id",
        "lmnr.association.properties.user_id",
        "ai.telemetry.metadata.userId",
        "ai.settings.context.userId",
        "mastra.metadata.userId",
        "llm.user",
    ),
    "trace_name": row("mlflow.traceTag.mlflow.traceName", "langfuse.trace.name"),
    "input_tokens": row(
        "gen_ai.usage.input_tokens",
        "llm.token_count.prompt",
        Source("mlflow.chat.tokenUsage", part="input_tokens"),
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "gen_ai.usage.prompt_tokens",
        Source("langfuse.observation.usage_details", part="input_tokens"),
        "ai.usage.tokens",
        Source("gen_ai.usage.raw", part="input_tokens"),
        "decision.token_count.input",
        "pydantic_ai.decision.usage.input_tokens",
        Source("input_tokens", only=ObservationKind.LLM, excludes_cache=True),
    ),
    "output_tokens": row(
        "gen_ai.usage.output_tokens",
        "llm.token_count.completion",
        Source("mlflow.chat.tokenUsage", part="output_tokens"),
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
        "gen_ai.usage.completion_tokens",
        Source("langfuse.observation.usage_details", part="output_tokens"),
        Source("gen_ai.usage.raw", part="output_tokens"),
        "decision.token_count.output",
        "pydantic_ai.decision.usage.output_tokens",
        Source("output_tokens", only=ObservationKind.LLM),
    ),
    "total_tokens": row(
        "llm.token_count.total",
        "gen_ai.usage.total_tokens",
        "llm.usage.total_tokens",
        Source("mlflow.chat.tokenUsage", part="total_tokens"),
        "ai.usage.totalTokens",
        Source("langfuse.observation.usage_details", part="total_tokens"),
        Source("gen_ai.usage.raw", part="total_tokens"),
    ),
    "cache_read_tokens": row(
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.details.cache_read_tokens",
        "gen_ai.usage.details.cached_tokens",
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_input",
        Source("mlflow.chat.tokenUsage", part="cache_read_input_tokens"),
        "ai.usage.cachedInputTokens",
        "ai.usage.inputTokenDetails.cacheReadTokens",
        Source("langfuse.observation.usage_details", part="cache_read_input_tokens"),
        Source("gen_ai.usage.raw", part="cache_read_input_tokens"),
        Source("cache_read_tokens", only=ObservationKind.LLM),
    ),
    "cache_write_tokens": row(
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.details.cache_write_tokens",
        "llm.token_count.prompt_details.cache_write",
        Source("mlflow.chat.tokenUsage", part="cache_creation_input_tokens"),
        "gen_ai.usage.cache_write_input_tokens",
        "ai.usage.inputTokenDetails.cacheWriteTokens",
        Source("langfuse.observation.usage_details", part="cache_creation_input_tokens"),
        Source("gen_ai.usage.raw", part="cache_creation_input_tokens"),
        Source("cache_creation_tokens", only=ObservationKind.LLM),
    ),
    "reasoning_tokens": row(
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
        "gen_ai.usage.details.thoughts_tokens",
        "llm.token_count.completion_details.reasoning",
        "ai.usage.reasoningTokens",
        "ai.usage.outputTokenDetails.reasoningTokens",
        "llm.usage.reasoning_tokens",
        Source("langfuse.observation.usage_details", part="reasoning_tokens"),
        Source("gen_ai.usage.raw", part="reasoning_tokens"),
    ),
    **dict(_by_modality()),
    "cost_usd": row(
        "gen_ai.usage.cost.amount",
        "operation.cost",
        "gen_ai.usage.cost",
        "llm.cost.total",
        Source("mlflow.llm.cost", part="total_cost", cost=CostSource.MLFLOW),
        Source("langfuse.observation.cost_details", part="total"),
        "gen_ai.cost.total_cost",
        "litellm.cost.total",
    ),
    "time_to_first_token_seconds": row(
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.ttft",
        Source("ai.response.msToFirstChunk", divisor=1000),
        Source("ttft_ms", only=ObservationKind.LLM, divisor=1000),
    ),
    "finish_reason": row(
        "gen_ai.response.finish_reasons",
        "llm.finish_reason",
        "ai.response.finishReason",
        "gen_ai.response.finish_reason",
        "pydantic_ai.response.state",
    ),
    "prompt_version": row(
        "llm.prompt_template.version",
        "langfuse.observation.prompt.version",
        "traceloop.prompt.version",
        Source("mlflow.linkedPrompts", part="-1.version"),
        "gen_ai.prompt.version",
    ),
    "prompt_name": row(
        "gen_ai.prompt.name",
        "langfuse.observation.prompt.name",
        "traceloop.prompt.key",
        Source("mlflow.linkedPrompts", part="-1.name"),
        "prompt.id",
    ),
    "error_type": row("error.type"),
    "retry_cause": row("pydantic_ai.tool.retry.cause", "pydantic_ai.output.retry.cause"),
    "retry_attempt": row("pydantic_ai.tool.retry.attempt", "pydantic_ai.output.retry.attempt"),
    "retry_max": row("pydantic_ai.tool.retry.max_retries", "pydantic_ai.output.retry.max_retries"),
    "model_attempt": row("pydantic_ai.model_request.attempt"),
    "environment": row("langfuse.environment"),
    "service_version": row("langfuse.release"),
}

# fact -> where it stands in the resource's attributes, which come before the span's own
RESOURCE_TABLE: Mapping[str, Row] = {
    "service": row("service.name"),
    "service_version": row("service.version"),
    "environment": row("deployment.environment.name", "deployment.environment"),
}

# lists of words, objects, and names with members behind them, that say something about the whole trace
TAG_LISTS = ("tag.tags", "langfuse.trace.tags")
TAG_OBJECTS = ("metadata", "langfuse.trace.metadata")
TAG_PREFIXES = (
    "mlflow.traceTag.",
    "langfuse.trace.metadata.",
    "traceloop.association.properties.",
    "lmnr.association.properties.",
    "ai.telemetry.metadata.",
)

# what the service itself has put on a span on its way to MLflow: not the client's word
ADDED = "sidespan.added"
REPLACED = "sidespan.replaced"

# any of these marks a span of a web server or an HTTP client
HTTP_MARKS = frozenset({"http.request.method", "http.method", "http.route", "http.target"})


def rolled_up(sources: Row) -> Row:
    """The same names for the sum over an agent's run, which pydantic-ai gives names of their own."""
    own, rolled = "gen_ai.usage.", "gen_ai.aggregated_usage."
    return row(*(s.key.replace(own, rolled) for s in sources if s.key.startswith(own) and not s.part))


MODALITY_INPUTS = tuple(f"{modality}_input" for modality in MODALITIES)
MODALITY_OUTPUTS = tuple(f"{modality}_output" for modality in MODALITIES)
# the kinds of counts, as the fields of `Tokens` (values.py) are called
TOKEN_KINDS = (
    *("input", "output", "total", "cache_read", "cache_write", "reasoning"),
    *MODALITY_INPUTS,
    *MODALITY_OUTPUTS,
)
AGGREGATED: Mapping[str, Row] = {f"{name}_tokens": rolled_up(TABLE[f"{name}_tokens"]) for name in TOKEN_KINDS}
