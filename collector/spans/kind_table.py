"""The table from attributes to kinds of spans, in order of preference. Pure."""

from collections.abc import Mapping

from collector.spans.conventions import ObservationKind

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
        "realtime_inference": ObservationKind.LLM,
        "speech_to_text": ObservationKind.LLM,
        "text_to_speech": ObservationKind.LLM,
        "decide": ObservationKind.DECISION,
        # names a model, and calls none
        "fetch_response": ObservationKind.OTHER,
        "user_speech": ObservationKind.OTHER,
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

# methods of a model's class that have a span of their own, but only build the request (LlamaIndex)
NO_CALLS = frozenset({"_prepare_chat_with_tools"})
