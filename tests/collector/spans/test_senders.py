"""What single senders write in their own way, each read as what it means."""

import json
from typing import Any

import pytest

from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.facts import facts
from collector.spans.values import SpanFacts, Tokens
from tests.support.spans import SECOND, START, otlp_span

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
USED = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}


def read(attributes: dict[str, Any], **fields: Any) -> SpanFacts:
    return facts(otlp_span(attributes, **fields), {})


# MLflow's SDK: LiveSpan.set_attribute encodes every value as JSON (mlflow/entities/span.py)

MLFLOW = {
    "mlflow.spanType": '"CHAT_MODEL"',
    "mlflow.llm.model": '"gpt-4o-mini"',
    "mlflow.llm.provider": '"openai"',
    "mlflow.chat.tokenUsage": '{"input_tokens": 79, "output_tokens": 15, "total_tokens": 94}',
    "mlflow.llm.cost": '{"input_cost": 0.001, "output_cost": 0.002, "total_cost": 0.003}',
    "mlflow.linkedPrompts": '[{"name": "greet", "version": "3"}]',
    "gen_ai.response.finish_reasons": '["length"]',
    "gen_ai.agent.name": '"weather"',
    "session.id": '"s-1"',
    "user.id": '"ann"',
    "mlflow.traceTag.team": "search",
}


def test_values_of_mlflows_sdk_lose_their_json_quotes() -> None:
    found = read(MLFLOW)
    assert found.kind is ObservationKind.LLM
    assert (found.model, found.provider, found.agent) == ("gpt-4o-mini", "openai", "weather")
    assert found.tokens == Tokens(input=79, output=15, total=94)
    assert (found.cost_usd, found.cost_source) == (0.003, CostSource.MLFLOW)
    assert (found.session, found.user, found.prompt_version) == ("s-1", "ann", "3")
    assert found.finish_reason == "length"
    assert found.tags == (("team", "search"),)


def test_values_of_mlflows_sdk_read_the_same_once_mlflow_has_decoded_them() -> None:
    decoded = {key: _decoded(value) for key, value in MLFLOW.items()}
    assert read(decoded) == read(MLFLOW)


def _decoded(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


@pytest.mark.parametrize("type", ["AGENT", "TOOL", "RETRIEVER", "EMBEDDING", "RERANKER", "MEMORY", "TASK"])
def test_types_of_mlflows_sdk_are_kinds(type: str) -> None:
    assert read({"mlflow.spanType": f'"{type}"'}).kind is ObservationKind(type)


def test_mlflows_autologging_tells_the_requested_model_beside_the_one_that_answered() -> None:
    asked = {"mlflow.spanType": '"CHAT_MODEL"', "model": '"gpt-4o-mini"'}
    answered = read({**asked, "mlflow.llm.model": '"gpt-4o-mini-2024-07-18"'})
    assert (answered.request_model, answered.model) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    assert (read(asked).request_model, read(asked).model) == ("gpt-4o-mini", "gpt-4o-mini")


QUOTES = {
    "a_text_that_only_begins_with_a_quote": ('"quoted" word', '"quoted" word'),
    "a_single_quote_sign": ('"', '"'),
    "quotes_that_are_no_json": ('"a"b"', '"a"b"'),
    "quotes_around_nothing": ('""', None),
    "an_escape_within_quotes": ('"caf\\u00e9"', "café"),
}


@pytest.mark.parametrize(("value", "agent"), QUOTES.values(), ids=QUOTES)
def test_only_jsons_own_quotes_are_taken_off(value: str, agent: str | None) -> None:
    assert read({"gen_ai.agent.name": value}).agent == agent


# usage as an object

LANGFUSE = "langfuse.observation.usage_details"
USAGE = {
    "langfuse_takes_the_parts_out": (
        LANGFUSE,
        {"input": 79, "output": 15, "input_cache_read": 31, "output_reasoning": 6, "total": 131},
        Tokens(input=110, output=21, total=131, cache_read=31, reasoning=6),
    ),
    "langfuse_without_a_total": (
        LANGFUSE,
        {"input": 79, "output": 15, "input_cache_read": 31},
        Tokens(input=110, output=15, total=125, cache_read=31),
    ),
    "langfuse_with_the_parts_left_in": (
        LANGFUSE,
        {"input": 110, "output": 21, "input_cached_tokens": 31, "output_reasoning_tokens": 6, "total": 131},
        Tokens(input=110, output=21, total=131, cache_read=31, reasoning=6),
    ),
    "langfuse_from_anthropic": (
        LANGFUSE,
        {
            "input": 10,
            "output": 5,
            "cache_read_input_tokens": 100,
            "cache_creation_input_tokens": 20,
            "cache_creation_ephemeral_5m_input_tokens": 20,
        },
        Tokens(input=130, output=5, total=135, cache_read=100, cache_write=20),
    ),
    "langfuse_from_langchain_with_lifetimes": (
        LANGFUSE,
        {"input": 10, "output": 5, "input_cache_creation": 0, "input_ephemeral_5m_input_tokens": 20},
        Tokens(input=30, output=5, total=35, cache_write=20),
    ),
    "langfuse_from_vertex_by_modality": (
        LANGFUSE,
        {"input": 0, "input_modality_TEXT": 12, "output": 0, "output_modality_TEXT": 4, "total": 16},
        Tokens(input=12, output=4, total=16, text_input=12, text_output=4),
    ),
    "langfuse_from_openai_with_audio": (
        LANGFUSE,
        {"input": 20, "input_audio_tokens": 80, "output": 5, "output_audio_tokens": 15, "total": 120},
        Tokens(input=100, output=20, total=120, audio_input=80, audio_output=15),
    ),
    "langfuse_with_a_service_tier": (
        LANGFUSE,
        {"input": 12, "input_priority": 12, "output": 4},
        Tokens(input=12, output=4, total=16),
    ),
    "langfuse_with_openais_own_names": (
        LANGFUSE,
        {
            "prompt_tokens": 110,
            "completion_tokens": 21,
            "total_tokens": 131,
            "prompt_tokens_details": {"cached_tokens": 31},
            "completion_tokens_details": {"reasoning_tokens": 6},
        },
        Tokens(input=110, output=21, total=131, cache_read=31, reasoning=6),
    ),
    "logfire_raw_of_the_responses_api": (
        "gen_ai.usage.raw",
        {
            "input_tokens": 128,
            "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4},
            "output_tokens": 36,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 164,
        },
        Tokens(input=128, output=36, total=164, cache_read=8, cache_write=4, reasoning=2),
    ),
    "logfire_raw_of_anthropic": (
        "gen_ai.usage.raw",
        {"input_tokens": 10, "output_tokens": 3, "cache_read_input_tokens": 90},
        Tokens(input=100, output=3, total=103, cache_read=90),
    ),
    "raw_of_gemini": (
        "gen_ai.usage.raw",
        {"promptTokenCount": 10, "candidatesTokenCount": 3, "thoughtsTokenCount": 4, "totalTokenCount": 17},
        Tokens(input=10, output=7, total=17, reasoning=4),
    ),
    "raw_of_gemini_by_modality": (
        "gen_ai.usage.raw",
        {
            "promptTokenCount": 290,
            "candidatesTokenCount": 30,
            "totalTokenCount": 320,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 12},
                {"modality": "VIDEO", "tokenCount": 258},
                {"modality": "DOCUMENT", "tokenCount": 20},
            ],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 30}, "?"],
        },
        Tokens(input=290, output=30, total=320, text_input=12, video_input=258, image_output=30),
    ),
    "raw_of_openai_with_audio": (
        "gen_ai.usage.raw",
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 10, "audio_tokens": 80},
            "completion_tokens_details": {"audio_tokens": 15, "text_tokens": 5},
        },
        Tokens(
            input=100, output=20, total=120, cache_read=10, audio_input=80, audio_output=15, text_output=5
        ),
    ),
    "an_object_without_counts": (LANGFUSE, {"model": "x"}, Tokens()),
    "words": (LANGFUSE, "many", Tokens()),
}


# https://github.com/open-telemetry/semantic-conventions-genai/pull/440
BY_MODALITY = {
    "opentelemetry": ("gen_ai.usage.{modality}.input_tokens", "gen_ai.usage.{modality}.output_tokens"),
    "openinference": (
        "llm.token_count.prompt_details.{modality}",
        "llm.token_count.completion_details.{modality}",
    ),
    "pydantic_ai": (
        "gen_ai.usage.details.input_{modality}_tokens",
        "gen_ai.usage.details.output_{modality}_tokens",
    ),
    "pydantic_ai_with_gemini": (
        "gen_ai.usage.details.{modality}_prompt_tokens",
        "gen_ai.usage.details.{modality}_candidates_tokens",
    ),
    "livekit": ("gen_ai.usage.input_{modality}_tokens", "gen_ai.usage.output_{modality}_tokens"),
}


@pytest.mark.parametrize("modality", ["text", "image", "audio", "video"])
@pytest.mark.parametrize(("taken", "given"), BY_MODALITY.values(), ids=BY_MODALITY)
def test_tokens_by_modality_are_parts_of_the_input_and_of_the_output(
    taken: str, given: str, modality: str
) -> None:
    found = read(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            taken.format(modality=modality): 80,
            given.format(modality=modality): 15,
        }
    )
    parts = {f"{modality}_input": 80, f"{modality}_output": 15}
    assert found.tokens == Tokens(input=100, output=20, total=120, **parts)


def test_tokens_by_modality_of_a_whole_run_are_read_beside_its_sums() -> None:
    found = read(
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.aggregated_usage.input_tokens": 100,
            "gen_ai.aggregated_usage.output_tokens": 20,
            "gen_ai.aggregated_usage.details.input_audio_tokens": 80,
        }
    )
    assert found.aggregated_tokens == Tokens(input=100, output=20, total=120, audio_input=80)


def test_audio_costs_what_the_list_says_of_audio() -> None:
    """gpt-realtime: 4 and 16 dollars a million of text, 32 and 64 of audio."""
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-realtime",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
    }
    audio = {"gen_ai.usage.audio.input_tokens": 800, "gen_ai.usage.audio.output_tokens": 50}
    written, spoken = read(call).cost_usd, read(call | audio).cost_usd
    assert (written, spoken) == (pytest.approx(0.0056), pytest.approx(0.0304))


def test_more_audio_than_there_are_tokens_is_priced_as_if_nobody_had_told_of_it() -> None:
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-realtime",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
    }
    assert read(call | {"gen_ai.usage.audio.input_tokens": 5000}).cost_usd == read(call).cost_usd


@pytest.mark.parametrize("form", ["object", "json"])
@pytest.mark.parametrize(("key", "value", "tokens"), USAGE.values(), ids=USAGE)
def test_usage_in_an_object_is_read_whole(form: str, key: str, value: Any, tokens: Tokens) -> None:
    written = value if form == "object" or isinstance(value, str) else json.dumps(value)
    assert read({key: written}).tokens == tokens


COSTS = {
    "langfuse_total": ({"langfuse.observation.cost_details": '{"input": 0.1, "total": 0.5}'}, 0.5),
    "langfuse_parts": ({"langfuse.observation.cost_details": {"input": 0.25, "output": 0.5}}, 0.75),
    "litellm": ({"gen_ai.cost.total_cost": 0.5, "gen_ai.cost.input_cost": 0.2}, 0.5),
    "a_price_of_nothing_with_tokens_is_the_lists": ({**CHAT, **USED, "gen_ai.usage.cost": 0.0}, 0.0035),
    "the_next_one_is_asked_first": (
        {**CHAT, **USED, "gen_ai.usage.cost": 0.0, "llm.cost.total": 0.25},
        0.25,
    ),
    "nothing_for_nothing": ({**CHAT, "gen_ai.usage.cost": 0.0}, 0.0),
    "nothing_for_a_model_that_no_list_knows": (
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "ours", **USED, "gen_ai.usage.cost": 0},
        None,
    ),
}


@pytest.mark.parametrize(("attributes", "usd"), COSTS.values(), ids=COSTS)
def test_costs_of_senders_are_read(attributes: dict[str, Any], usd: float | None) -> None:
    found = read(attributes)
    assert found.cost_usd == (None if usd is None else pytest.approx(usd))


def test_vercels_embeddings_tell_their_tokens() -> None:
    found = read({"ai.operationId": "ai.embed.doEmbed", "ai.usage.tokens": 7})
    assert found.tokens == Tokens(input=7, total=7)


# plausible values

FIRST_TOKEN = {
    "seconds_within_the_span": ("gen_ai.server.time_to_first_token", 0.4, 0.4),
    "milliseconds_under_a_name_for_seconds": ("gen_ai.server.time_to_first_token", 2442, 2.442),
    "longer_than_the_span_in_any_unit": ("gen_ai.server.time_to_first_token", 104_500, None),
    "milliseconds_by_name": ("ai.response.msToFirstChunk", 2442, 2.442),
    "milliseconds_by_name_are_not_divided_twice": ("ai.response.msToFirstChunk", 104_500, None),
    "at_the_very_end": ("gen_ai.server.time_to_first_token", 2.7, 2.7),
}


@pytest.mark.parametrize(("key", "value", "seconds"), FIRST_TOKEN.values(), ids=FIRST_TOKEN)
def test_the_first_token_comes_within_its_span(key: str, value: float, seconds: float | None) -> None:
    found = read({key: value}, end_time_unix_nano=START + int(2.7 * SECOND))
    assert found.time_to_first_token_seconds == seconds


TRUNCATED = {
    "openai": (["length"], "length"),
    "json_text_of_a_list": ('["length"]', "length"),
    "one_of_two": (["stop", "length"], "stop, length"),
    "anthropic": (["max_tokens"], "max_tokens"),
    "gemini": ("MAX_TOKENS", "max_tokens"),
    "gemini_by_number_names": ("FINISH_REASON_MAX_TOKENS", "max_tokens"),
    "an_enums_member": ("FinishReason.LENGTH", "length"),
    "responses_api": ("max_output_tokens", "max_output_tokens"),
}


@pytest.mark.parametrize(("value", "reason"), TRUNCATED.values(), ids=TRUNCATED)
def test_an_answer_that_was_cut_counts_as_such_in_every_spelling(value: Any, reason: str) -> None:
    found = read({"gen_ai.response.finish_reasons": value})
    assert found.finish_reason == reason
    assert found.is_truncated


@pytest.mark.parametrize("value", [["stop"], "end_turn", "STOP", "content_filter", "lengthy", None])
def test_other_answers_were_not_cut(value: Any) -> None:
    assert not read({"gen_ai.response.finish_reasons": value}).is_truncated


@pytest.mark.parametrize("value", ["openai", "OpenAI", "openai.chat", "openai.responses", '"openai"'])
def test_one_provider_has_one_name(value: str) -> None:
    assert read({"gen_ai.system": value}).provider == "openai"


OTHER_PROVIDERS = {
    "amazon-bedrock": "aws.bedrock",
    "google.generative-ai": "gcp.gemini",
    "google.vertex.chat": "gcp.vertex_ai",
    "azure.ai.openai": "azure.ai.openai",
    "mistral.chat": "mistral_ai",
    "our.gateway": "our.gateway",
    "cohere": "cohere",
}


@pytest.mark.parametrize(("value", "name"), OTHER_PROVIDERS.items(), ids=OTHER_PROVIDERS)
def test_providers_have_opentelemetrys_names(value: str, name: str) -> None:
    assert read({"ai.model.provider": value}).provider == name


# prices

MODELS = {
    "litellms_prefix": ("openai/gpt-4o-mini", None, 1000 * 0.15e-6 + 100 * 0.6e-6),
    "prefix_and_provider": ("openai/gpt-4o-mini", "openai", 1000 * 0.15e-6 + 100 * 0.6e-6),
    "another_prefix": ("anthropic/claude-sonnet-4-5", None, 1000 * 3e-6 + 100 * 15e-6),
    "geminis_resource_name": ("models/gemini-2.5-flash", None, 1000 * 0.3e-6 + 100 * 2.5e-6),
    "a_router_and_a_prefix": ("openrouter/openai/gpt-4o-mini", None, 1000 * 0.15e-6 + 100 * 0.6e-6),
    "vertex_resource_name": ("publishers/google/models/gemini-2.5-flash", None, 1000 * 0.3e-6 + 100 * 2.5e-6),
}


@pytest.mark.parametrize(("model", "provider", "usd"), MODELS.values(), ids=MODELS)
def test_models_are_priced_whatever_stands_before_their_name(
    model: str, provider: str | None, usd: float
) -> None:
    said = {"gen_ai.provider.name": provider} if provider else {}
    found = read({"gen_ai.operation.name": "chat", "gen_ai.request.model": model, **said, **USED})
    assert found.cost_usd == pytest.approx(usd)


def test_an_embedding_is_priced_without_its_provider() -> None:
    found = read(
        {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.request.model": "text-embedding-3-small",
            "gen_ai.usage.input_tokens": 1000,
        }
    )
    assert found.cost_usd == pytest.approx(1000 * 0.02e-6)


@pytest.mark.parametrize(
    ("model", "provider"),
    [("ollama/deepseek-r1", None), ("deepseek-r1", "ollama"), ("a/" * 400 + "b", None)],
    ids=["local_by_prefix", "local_by_provider", "many_prefixes"],
)
def test_no_providers_price_is_put_on_other_models(model: str, provider: str | None) -> None:
    said = {"gen_ai.provider.name": provider} if provider else {}
    found = read({"gen_ai.operation.name": "chat", "gen_ai.request.model": model, **said, **USED})
    assert found.cost_usd is None


# agents and workflows

AGENT = {"openinference.span.kind": "AGENT"}
AGENTS = {
    "crewai": ({**AGENT, "graph.node.id": "Researcher"}, "Researcher"),
    "agno_has_a_random_node": (
        {**AGENT, "graph.node.id": "0a1b2c3d4e5f6071", "graph.node.name": "weather"},
        "weather",
    ),
    "a_random_node_alone": ({**AGENT, "graph.node.id": "0a1b2c3d4e5f6071"}, None),
    "langgraph_by_openinference": ({"metadata": '{"lc_agent_name": "weather"}'}, "weather"),
    "langgraph_by_openllmetry": ({"traceloop.association.properties.lc_agent_name": "weather"}, "weather"),
    "langgraph_by_langfuse": ({"langfuse.observation.metadata.lc_agent_name": '"weather"'}, "weather"),
    "a_node_that_is_no_agent": ({"graph.node.id": "retrieve"}, None),
}


@pytest.mark.parametrize(("attributes", "agent"), AGENTS.values(), ids=AGENTS)
def test_agents_are_named_in_every_framework(attributes: dict[str, Any], agent: str | None) -> None:
    found = read(attributes)
    assert found.agent == agent
    assert found.workflow is None


def test_an_id_drawn_at_random_is_no_workflow() -> None:
    assert read({"gen_ai.workflow.name": "2f1c6f3e-6a1c-4f3e-9d1e-0f6a5b4c3d2e"}).workflow is None
    assert read({"gen_ai.workflow.name": "triage"}).workflow == "triage"


STEP = {
    "plan": "gold",
    "thread_id": "t-1",
    "langgraph_step": 3,
    "langgraph_node": "agent",
    "langgraph_checkpoint_ns": "agent:1",
    "checkpoint_ns": "agent:1",
    "ls_provider": "openai",
    "ls_model_name": "gpt-4o",
    "lc_agent_name": "weather",
}


@pytest.mark.parametrize(
    "attributes",
    [
        {"metadata": json.dumps(STEP)},
        {f"traceloop.association.properties.{key}": value for key, value in STEP.items()},
        {f"langfuse.trace.metadata.{key}": json.dumps(value) for key, value in STEP.items()},
    ],
    ids=["openinference", "openllmetry", "langfuse"],
)
def test_what_langgraph_notes_of_a_step_is_no_tag(attributes: dict[str, Any]) -> None:
    assert dict(read(attributes).tags) == {"plan": "gold"}


def test_langfuses_tags_have_no_json_quotes() -> None:
    assert dict(read({"langfuse.trace.tags": '["beta", "eu"]'}).tags) == {"beta": "", "eu": ""}
    assert dict(read({"langfuse.trace.metadata.plan": '"gold"'}).tags) == {"plan": "gold"}


# kinds

OPERATIONS = {
    "search_memory": ObservationKind.MEMORY,
    "create_memory_store": ObservationKind.MEMORY,
    "memory.inject": ObservationKind.MEMORY,
    "rerank": ObservationKind.RERANKER,
    "handle_conversation_turn": ObservationKind.CHAIN,
}


@pytest.mark.parametrize(("operation", "kind"), OPERATIONS.items(), ids=OPERATIONS)
def test_operations_have_their_kinds(operation: str, kind: ObservationKind) -> None:
    assert read({"gen_ai.operation.name": operation}).kind is kind


@pytest.mark.parametrize("type", ["log", "pending_span"])
def test_a_line_of_logfires_log_is_no_call(type: str) -> None:
    assert read({**CHAT, "logfire.span_type": type}).kind is ObservationKind.OTHER
    assert read({**CHAT, "logfire.span_type": "span"}).kind is ObservationKind.LLM


REASONS_IN_EVENTS = {
    "strands": (
        [
            ("gen_ai.user.message", {"content": "x"}),
            ("gen_ai.choice", {"finish_reason": "max_tokens", "message": '[{"text": "Sun"}]'}),
        ],
        "max_tokens",
    ),
    "strands_today": (
        [
            (
                "gen_ai.client.inference.operation.details",
                {"gen_ai.output.messages": '[{"role": "assistant", "finish_reason": "max_tokens"}]'},
            )
        ],
        "max_tokens",
    ),
    "none": ([("gen_ai.user.message", {"content": "x"})], None),
}


@pytest.mark.parametrize(("events", "reason"), REASONS_IN_EVENTS.values(), ids=REASONS_IN_EVENTS)
def test_a_finish_reason_may_stand_in_an_event(events: list[Any], reason: str | None) -> None:
    span = otlp_span(CHAT)
    for name, attributes in events:
        added = span.events.add(name=name)
        for key, value in attributes.items():
            added.attributes.add(key=key).value.string_value = value
    assert facts(span, {}).finish_reason == reason
    span.attributes[0].value.string_value = "invoke_agent"
    assert facts(span, {}).finish_reason is None


def test_a_failed_call_tells_its_model_among_its_parameters() -> None:
    found = read({"openinference.span.kind": "LLM", "llm.invocation_parameters": '{"model": "gpt-4o-mini"}'})
    assert (found.model, found.request_model) == ("gpt-4o-mini", "gpt-4o-mini")


ROWS = {
    "vercel_7_session": ({"ai.settings.context.sessionId": "s"}, "session", "s"),
    "vercel_7_user": ({"ai.settings.context.userId": "u"}, "user", "u"),
    "mastra_session": ({"mastra.metadata.sessionId": "s"}, "session", "s"),
    "litellm_user": ({"llm.user": "u"}, "user", "u"),
    "langgraph_thread": ({"traceloop.association.properties.thread_id": "t"}, "session", "t"),
    "litellm_embedding": ({"gen_ai.operation.name": "embedding"}, "kind", ObservationKind.EMBEDDING),
    "vercel_7_step": ({"gen_ai.operation.name": "agent_step"}, "kind", ObservationKind.CHAIN),
    "strands_cycle": (
        {"gen_ai.operation.name": "execute_event_loop_cycle"},
        "kind",
        ObservationKind.CHAIN,
    ),
    "semantic_kernel_reason": (
        {"gen_ai.response.finish_reason": "FinishReason.LENGTH"},
        "finish_reason",
        "length",
    ),
    "a_models_client_is_no_web_server": ({**CHAT, "http.request.method": "POST"}, "is_http", False),
    "a_failed_call_of_langfuse_has_no_price": (
        {"langfuse.observation.cost_details": '{"input": 0, "output": 0, "total": 0}'},
        "cost_usd",
        None,
    ),
}


@pytest.mark.parametrize(("attributes", "fact", "value"), ROWS.values(), ids=ROWS)
def test_single_frameworks_tell(attributes: dict[str, Any], fact: str, value: Any) -> None:
    assert getattr(read(attributes), fact) == value


def test_vercels_details_are_parts() -> None:
    found = read(
        {
            **CHAT,
            **USED,
            "ai.usage.inputTokenDetails.cacheReadTokens": 40,
            "ai.usage.outputTokenDetails.reasoningTokens": 5,
        }
    )
    assert (found.tokens.cache_read, found.tokens.reasoning) == (40, 5)


def test_a_method_that_only_builds_a_request_is_no_call() -> None:
    llm = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o"}
    assert read(llm, name="OpenAI._prepare_chat_with_tools").kind is ObservationKind.CHAIN
    assert read(llm, name="OpenAI.achat").kind is ObservationKind.LLM


def test_a_tools_name_is_without_the_method_that_calls_it() -> None:
    assert read({"openinference.span.kind": "TOOL"}, name="weather.__call__").tool == "weather"
    assert read({"mlflow.spanType": '"TOOL"'}, name="weather").tool == "weather"
