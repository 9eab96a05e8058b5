"""The table from attributes to facts: one row a fact, its sources left to right. Pure.

The first source that is there and can be read wins. A convention that is new to us is one more source in
the rows it has something to say about; nothing else changes.

    gen_ai.*               OpenTelemetry GenAI, current and older names, pydantic-ai
    llm.* session.id ...   OpenInference
    traceloop.* llm.usage  OpenLLMetry / Traceloop
    ai.*                   Vercel AI SDK
    langfuse.* lmnr.*      Langfuse, Laminar
    mlflow.*               MLflow's own SDK, and what MLflow adds when a trace is read back
    span.type, bare names  Claude Code

How a value is read is in readers.py.
"""

from collections.abc import Mapping
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
    TASK = "TASK"
    MEMORY = "MEMORY"
    OTHER = "OTHER"


class CostSource(StrEnum):
    """Who computed a cost: the client, MLflow, or the public price list (prices.py)."""

    CLIENT = "client"
    MLFLOW = "mlflow"
    TABLE = "table"
    NONE = "none"


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


SAME_KINDS = {kind.value.lower(): kind for kind in ObservationKind if kind is not ObservationKind.OTHER}
_VERCEL_MODEL_CALLS = ("generatetext", "streamtext", "generateobject", "streamobject")

# operations on an agent's memory: OpenTelemetry's, Strands' and VoltAgent's
_MEMORY = (
    "create_memory update_memory upsert_memory delete_memory search_memory create_memory_store"
    " delete_memory_store memory.search memory.add memory.inject memory.extract memory"
)

# attribute -> its values, in lower case -> kind; a value that isn't listed leaves it to the next attribute
KINDS: Mapping[str, Mapping[str, ObservationKind]] = {
    # Logfire sends log lines, and spans that have only begun, as spans with the attributes of the call
    "logfire.span_type": {"log": ObservationKind.OTHER, "pending_span": ObservationKind.OTHER},
    "mlflow.spanType": SAME_KINDS | {"chat_model": ObservationKind.LLM, "parser": ObservationKind.CHAIN},
    "openinference.span.kind": SAME_KINDS | {"prompt": ObservationKind.CHAIN},
    "gen_ai.operation.name": {
        "chat": ObservationKind.LLM,
        "generate_content": ObservationKind.LLM,
        "text_completion": ObservationKind.LLM,
        "response": ObservationKind.LLM,
        "embeddings": ObservationKind.EMBEDDING,
        "embedding": ObservationKind.EMBEDDING,
        "execute_tool": ObservationKind.TOOL,
        "create_agent": ObservationKind.AGENT,
        "invoke_agent": ObservationKind.AGENT,
        "invoke_workflow": ObservationKind.WORKFLOW,
        "retrieval": ObservationKind.RETRIEVER,
        "plan": ObservationKind.CHAIN,
        "handle_conversation_turn": ObservationKind.CHAIN,
        "execute_event_loop_cycle": ObservationKind.CHAIN,
        "agent_step": ObservationKind.CHAIN,
        "rerank": ObservationKind.RERANKER,
    }
    | dict.fromkeys(_MEMORY.split(), ObservationKind.MEMORY),
    "traceloop.span.kind": SAME_KINDS,
    "llm.request.type": {
        "chat": ObservationKind.LLM,
        "completion": ObservationKind.LLM,
        "embedding": ObservationKind.EMBEDDING,
        "rerank": ObservationKind.RERANKER,
    },
    "ai.operationId": {f"ai.{call}": ObservationKind.LLM for call in _VERCEL_MODEL_CALLS}
    | {f"ai.{call}.dogenerate": ObservationKind.LLM for call in _VERCEL_MODEL_CALLS}
    | {f"ai.{call}.dostream": ObservationKind.LLM for call in _VERCEL_MODEL_CALLS}
    | {
        "ai.toolcall": ObservationKind.TOOL,
        "ai.embed": ObservationKind.EMBEDDING,
        "ai.embed.doembed": ObservationKind.EMBEDDING,
        "ai.embedmany": ObservationKind.EMBEDDING,
        "ai.embedmany.doembed": ObservationKind.EMBEDDING,
        "ai.rerank": ObservationKind.RERANKER,
        "ai.rerank.dorerank": ObservationKind.RERANKER,
    },
    "langfuse.observation.type": SAME_KINDS | {"generation": ObservationKind.LLM},
    "lmnr.span.type": {
        "llm": ObservationKind.LLM,
        "cached": ObservationKind.LLM,
        "tool": ObservationKind.TOOL,
        "default": ObservationKind.CHAIN,
        "pipeline": ObservationKind.CHAIN,
        "executor": ObservationKind.AGENT,
        "evaluator": ObservationKind.EVALUATOR,
        "human_evaluator": ObservationKind.EVALUATOR,
        "evaluation": ObservationKind.EVALUATOR,
    },
    "span.type": {
        f"{prefix}{name}": kind
        for prefix in ("", "claude_code.")
        for name, kind in {
            "interaction": ObservationKind.AGENT,
            "llm_request": ObservationKind.LLM,
            "tool": ObservationKind.TOOL,
        }.items()
    },
}

# a model call of the Vercel AI SDK whose parts are spans of their own: its usage repeats its last part's
ROLL_UPS: Mapping[str, frozenset[str]] = {
    "ai.operationId": frozenset(f"ai.{call}" for call in _VERCEL_MODEL_CALLS) | {"ai.embed", "ai.embedmany"},
}

# fact -> where it stands in the span's attributes
TABLE: Mapping[str, Row] = {
    "request_model": row(
        "gen_ai.request.model",
        "llm.request.model_name",
        "ai.model.id",
        # the request as OpenInference copies it, where its `llm.model_name` is the answer's
        Source("llm.invocation_parameters", part="model", only=ObservationKind.LLM),
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
    ),
    "prompt_version": row(
        "llm.prompt_template.version",
        "langfuse.observation.prompt.version",
        "traceloop.prompt.version",
        Source("mlflow.linkedPrompts", part="-1.version"),
        "gen_ai.prompt.name",
    ),
    "error_type": row("error.type"),
    "retry_cause": row("pydantic_ai.tool.retry.cause"),
    "retry_attempt": row("pydantic_ai.tool.retry.attempt"),
    "retry_max": row("pydantic_ai.tool.retry.max_retries"),
    "environment": row("langfuse.environment"),
    "service_version": row("langfuse.release"),
}

# methods of a model's class that have a span of their own, but only build the request (LlamaIndex)
NO_CALLS = frozenset({"_prepare_chat_with_tools"})

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


USAGE = ("input", "output", "total", "cache_read", "cache_write", "reasoning")
AGGREGATED: Mapping[str, Row] = {f"{name}_tokens": rolled_up(TABLE[f"{name}_tokens"]) for name in USAGE}

# every attribute that is looked at; the rest of a span needs no decoding
KEYS: frozenset[str] = (
    frozenset(s.key for table in (TABLE, AGGREGATED) for sources in table.values() for s in sources)
    | frozenset(KINDS)
    | HTTP_MARKS
    | {*TAG_LISTS, *TAG_OBJECTS, ADDED}
)
