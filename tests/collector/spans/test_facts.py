"""One span as facts: every source of every row, and nothing a client sends raises."""

import ast
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import collector.spans
from collector.spans import facts as facts_module
from collector.spans import told_names
from collector.spans.conventions import AGGREGATED, TABLE, CostSource, ObservationKind
from collector.spans.facts import export_facts, facts
from collector.spans.keys import KEYS
from collector.spans.kind_table import KINDS
from collector.spans.values import MAX_LINKS, SpanFacts, SpanLink, Tokens
from collector.spans.wire import Export
from tests.support.facts import read
from tests.support.otlp import all_spans
from tests.support.spans import SECOND, START, otlp_span, payload

KIND_TABLE = {
    "mlflow_chat_model_is_llm": ({"mlflow.spanType": "CHAT_MODEL"}, ObservationKind.LLM),
    "mlflow_tool": ({"mlflow.spanType": "TOOL"}, ObservationKind.TOOL),
    "mlflow_before_openinference": (
        {"mlflow.spanType": "AGENT", "openinference.span.kind": "LLM"},
        ObservationKind.AGENT,
    ),
    "mlflow_unknown_is_passed_over": (
        {"mlflow.spanType": "UNKNOWN", "openinference.span.kind": "RETRIEVER"},
        ObservationKind.RETRIEVER,
    ),
    "openinference_unknown_is_passed_over": (
        {"openinference.span.kind": "UNKNOWN", "gen_ai.operation.name": "invoke_workflow"},
        ObservationKind.WORKFLOW,
    ),
    "openinference_reranker": ({"openinference.span.kind": "RERANKER"}, ObservationKind.RERANKER),
    "openinference_guardrail": ({"openinference.span.kind": "GUARDRAIL"}, ObservationKind.GUARDRAIL),
    "genai_chat": ({"gen_ai.operation.name": "chat"}, ObservationKind.LLM),
    "genai_embeddings": ({"gen_ai.operation.name": "embeddings"}, ObservationKind.EMBEDDING),
    "genai_execute_tool": ({"gen_ai.operation.name": "execute_tool"}, ObservationKind.TOOL),
    "genai_invoke_agent": ({"gen_ai.operation.name": "invoke_agent"}, ObservationKind.AGENT),
    "genai_realtime_inference": ({"gen_ai.operation.name": "realtime_inference"}, ObservationKind.LLM),
    "genai_speech_to_text": ({"gen_ai.operation.name": "speech_to_text"}, ObservationKind.LLM),
    "genai_decide": ({"gen_ai.operation.name": "decide"}, ObservationKind.DECISION),
    "fetching_a_response_calls_no_model": (
        {"gen_ai.operation.name": "fetch_response", "gen_ai.request.model": "gpt-4o"},
        ObservationKind.OTHER,
    ),
    "openinference_decision": ({"openinference.span.kind": "DECISION"}, ObservationKind.DECISION),
    "genai_retrieval": ({"gen_ai.operation.name": "retrieval"}, ObservationKind.RETRIEVER),
    "traceloop_workflow": ({"traceloop.span.kind": "workflow"}, ObservationKind.WORKFLOW),
    "traceloop_request_type": ({"llm.request.type": "completion"}, ObservationKind.LLM),
    "vercel_parent": ({"ai.operationId": "ai.generateText"}, ObservationKind.LLM),
    "vercel_child": ({"ai.operationId": "ai.streamText.doStream"}, ObservationKind.LLM),
    "vercel_tool": ({"ai.operationId": "ai.toolCall"}, ObservationKind.TOOL),
    "langfuse_generation": ({"langfuse.observation.type": "generation"}, ObservationKind.LLM),
    "langfuse_evaluator": ({"langfuse.observation.type": "evaluator"}, ObservationKind.EVALUATOR),
    "langfuse_span_says_nothing": ({"langfuse.observation.type": "span"}, ObservationKind.OTHER),
    "laminar_executor": ({"lmnr.span.type": "EXECUTOR"}, ObservationKind.AGENT),
    "a_tool_name_makes_a_tool": ({"gen_ai.tool.name": "search"}, ObservationKind.TOOL),
    "a_request_model_makes_an_llm": ({"gen_ai.request.model": "gpt-4o"}, ObservationKind.LLM),
    "a_number_is_no_kind": ({"openinference.span.kind": 7}, ObservationKind.OTHER),
    "nothing_is_other": ({}, ObservationKind.OTHER),
}


@pytest.mark.parametrize(("attributes", "kind"), KIND_TABLE.values(), ids=KIND_TABLE.keys())
def test_kind_comes_from_the_first_attribute_that_tells(
    attributes: dict[str, Any], kind: ObservationKind
) -> None:
    assert read(attributes).kind is kind


SOURCES = [
    pytest.param(field, source, id=f"{field}_from_{source.key}")
    for field, sources in TABLE.items()
    if field not in ("conversation", "error_type")
    for source in sources
]
NUMBERS = {
    "retry_attempt": 7,
    "retry_max": 7,
    "model_attempt": 7,
    "cost_usd": 7.0,
    "time_to_first_token_seconds": 7.0,
}


@pytest.mark.parametrize(("field", "source"), SOURCES)
def test_every_source_of_every_row_is_read(field: str, source: Any) -> None:
    number = field.endswith("_tokens") or field in NUMBERS
    value: Any = 7 if number else "seven"
    if source.part:
        for part in reversed(source.part.split(".")):
            value = [value] if part == "-1" else {part: value}
    attributes: dict[str, Any] = {source.key: value}
    if source.only is not None:
        attributes["mlflow.spanType"] = source.only.value
    found = read(attributes, end_time_unix_nano=START + 10 * SECOND)
    if field.endswith("_tokens"):
        told = getattr(found.tokens, field.removesuffix("_tokens"))
    else:
        told = getattr(found, field)
    assert told == (7 / source.divisor if number else "seven")


@pytest.mark.parametrize("row", [row for row in TABLE.items() if len(row[1]) > 1], ids=lambda row: row[0])
def test_sources_win_from_left_to_right(row: tuple[str, Any]) -> None:
    field, sources = row
    plain = [source for source in sources if not source.part and source.only is None]
    number = field.endswith("_tokens") or field in NUMBERS
    attributes = {
        source.key: place if number else f"from {source.key}" for place, source in enumerate(plain, 1)
    }
    found = read(dict(reversed(attributes.items())))
    told = (
        getattr(found.tokens, field.removesuffix("_tokens"))
        if field.endswith("_tokens")
        else getattr(found, field)
    )
    # rules over the table: input holds its cached part (rule 2), totals are sums
    assert told == (1 if number else f"from {plain[0].key}")


READINGS = {
    "text_of_digits_is_a_number": ("12", 12),
    "text_with_spaces_is_a_number": (" 12 ", 12),
    "a_whole_double_is_a_number": (12.0, 12),
    "half_a_token_is_nothing": (12.5, None),
    "a_negative_count_is_nothing": (-1, None),
    "a_boolean_is_nothing": (True, None),
    "words_are_nothing": ("many", None),
    "not_a_number_is_nothing": (math.nan, None),
    "infinity_is_nothing": ("inf", None),
    "an_absurd_count_is_nothing": ("9" * 5000, None),
    "a_list_is_nothing": ([12], None),
    "an_object_is_nothing": ({"a": 12}, None),
    "bytes_are_nothing": (b"12", None),
    "empty_is_nothing": (None, None),
}


@pytest.mark.parametrize(("value", "tokens"), READINGS.values(), ids=READINGS.keys())
def test_wrong_types_are_read_as_meant_or_left_out(value: Any, tokens: int | None) -> None:
    assert read({"gen_ai.usage.input_tokens": value}).tokens.input == tokens


def test_a_source_that_cannot_be_read_leaves_it_to_the_next() -> None:
    found = read({"gen_ai.usage.input_tokens": "many", "llm.token_count.prompt": 12})
    assert found.tokens.input == 12


@pytest.mark.parametrize(
    "value",
    ['{"input_tokens": 3, "output_tokens": 4}', {"input_tokens": 3, "output_tokens": 4}],
    ids=["as_json_text_from_the_client", "as_an_object_from_mlflow"],
)
def test_json_members_are_read_in_both_forms(value: Any) -> None:
    assert read({"mlflow.chat.tokenUsage": value}).tokens == Tokens(input=3, output=4, total=7)


def test_numeric_text_reads_the_same_after_mlflow_made_it_a_number() -> None:
    assert read({"session.id": "42"}).session == read({"session.id": 42}).session == "42"


def test_finish_reasons_are_joined_whether_list_or_text() -> None:
    assert read({"gen_ai.response.finish_reasons": ["stop", "length"]}).finish_reason == "stop, length"
    assert read({"llm.finish_reason": "stop"}).finish_reason == "stop"


def test_long_texts_are_cut() -> None:
    assert len(read({"gen_ai.agent.name": "a" * 100_000}).agent) == 1000
    assert len(facts(otlp_span({}, name="n" * 100_000), {}).name) == 1000


TOTALS = {
    "sum_of_both": ({"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 2}, 7),
    "sum_before_a_given_total": (
        {
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.output_tokens": 2,
            "llm.token_count.total": 99,
        },
        7,
    ),
    "given_total_if_a_part_is_unknown": (
        {"gen_ai.usage.input_tokens": 5, "llm.token_count.total": 9},
        9,
    ),
    "total_alone": ({"llm.usage.total_tokens": 9}, 9),
    "input_alone": ({"gen_ai.usage.input_tokens": 5}, 5),
}


@pytest.mark.parametrize(("attributes", "total"), TOTALS.values(), ids=TOTALS.keys())
def test_total_is_the_sum_of_input_and_output(attributes: dict[str, Any], total: int) -> None:
    assert read(attributes).tokens.total == total


def test_rule_2_input_below_its_cached_part_is_taken_as_exclusive_and_marked() -> None:
    found = read(
        {
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.usage.cache_read.input_tokens": 100,
            "gen_ai.usage.cache_creation.input_tokens": 20,
        }
    )
    assert found.tokens == Tokens(input=130, output=5, total=135, cache_read=100, cache_write=20)
    assert found.input_excluded_cache


def test_rule_2_cache_and_reasoning_are_parts_and_not_added() -> None:
    found = read(
        {
            "gen_ai.usage.input_tokens": 200,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.cache_read.input_tokens": 100,
            "gen_ai.usage.details.reasoning_tokens": 40,
        }
    )
    assert found.tokens == Tokens(input=200, output=50, total=250, cache_read=100, reasoning=40)
    assert not found.input_excluded_cache


def test_session_that_repeats_the_conversation_gives_way_to_another() -> None:
    overwritten = {"session.id": "run-1", "gen_ai.conversation.id": "run-1"}
    assert read(overwritten).session is None
    assert read(overwritten).conversation == "run-1"
    assert read(overwritten | {"langfuse.session.id": "mine"}).session == "mine"
    assert read({"session.id": "mine", "gen_ai.conversation.id": "run-1"}).session == "mine"


def test_cost_says_who_computed_it() -> None:
    assert read({"operation.cost": 0.5}).cost_source is CostSource.CLIENT
    assert read({"mlflow.llm.cost": '{"total_cost": 0.5}'}).cost_source is CostSource.MLFLOW
    assert read({}).cost_source is CostSource.NONE


def test_time_to_first_token_is_in_seconds_whatever_the_unit() -> None:
    assert read({"ai.response.msToFirstChunk": 250}).time_to_first_token_seconds == 0.25
    assert read({"gen_ai.server.ttft": 0.25}).time_to_first_token_seconds == 0.25


def test_tool_name_comes_from_the_span_name_as_a_last_resort() -> None:
    found = read({"openinference.span.kind": "TOOL"}, name="execute_tool search")
    assert found.tool == "search"
    assert read({}, name="execute_tool search").tool is None


def failing(**status: Any) -> Span:
    span = otlp_span({}, status=Status(code=Status.STATUS_CODE_ERROR, **status))
    event = span.events.add(name="exception")
    event.attributes.add(key="exception.type").value.string_value = "ValueError"
    event.attributes.add(key="exception.message").value.string_value = "too small"
    return span


def test_an_error_is_told_by_status_and_exception() -> None:
    found = facts(failing(), {})
    assert (found.is_error, found.error_type, found.error_message) == (True, "ValueError", "too small")
    assert facts(failing(message="no"), {}).error_message == "no"


def test_of_several_exceptions_the_last_is_told() -> None:
    span = failing()
    span.events.add(name="exception").attributes.add(key="exception.type").value.string_value = "KeyError"
    span.events.add(name="a note")
    assert facts(span, {}).error_type == "KeyError"


def test_an_exception_without_error_status_is_no_error() -> None:
    span = failing()
    span.status.code = Status.STATUS_CODE_OK
    found = facts(span, {})
    assert (found.is_error, found.error_type, found.error_message) == (False, None, None)


@pytest.mark.parametrize(
    ("attempt", "recovered"), [(1, True), (2, True), (3, False)], ids=["first", "last", "exhausted"]
)
def test_a_retry_within_its_limit_is_recovered(attempt: int, recovered: bool) -> None:
    retry = {
        "pydantic_ai.tool.retry.cause": "model_retry",
        "pydantic_ai.tool.retry.attempt": attempt,
        "pydantic_ai.tool.retry.max_retries": 2,
    }
    assert read(retry, status=Status(code=Status.STATUS_CODE_ERROR)).is_recovered_retry is recovered
    assert not read(retry).is_recovered_retry


@pytest.mark.parametrize("of", ["tool", "output"])
def test_beyond_the_last_try_pydantic_ai_2_gives_the_cause_alone(of: str) -> None:
    cause = {f"pydantic_ai.{of}.retry.cause": "validation_error"}
    failed = read(cause, status=Status(code=Status.STATUS_CODE_ERROR))
    assert failed.retry_cause == "validation_error"
    assert not failed.is_recovered_retry
    again = {f"pydantic_ai.{of}.retry.attempt": 1, f"pydantic_ai.{of}.retry.max_retries": 1}
    assert read(cause | again, status=Status(code=Status.STATUS_CODE_ERROR)).is_recovered_retry


def test_an_attempt_at_a_model_request_is_no_error_of_its_own() -> None:
    attempt = {"gen_ai.request.model": "gpt-4o", "pydantic_ai.model_request.attempt": 0}
    found = read(attempt, status=Status(code=Status.STATUS_CODE_ERROR))
    assert (found.kind, found.model_attempt) == (ObservationKind.LLM, 0)
    assert found.is_recovered_retry


def test_a_path_of_sessions_is_the_json_that_mlflow_keeps() -> None:
    for session in (["trip-2", "turn-ä"], '["trip-2","turn-ä"]'):
        assert read({"session.id": session}).session == '["trip-2","turn-ä"]'
        assert read({"mlflow.trace.session": session}).session == '["trip-2","turn-ä"]'
    assert read({"session.id": ["trip-2", 7]}).session == "trip-2, 7"
    assert read({"session.id": []}).session is None


def test_a_prompts_name_is_apart_from_its_version() -> None:
    found = read({"gen_ai.prompt.name": "analyze-code", "gen_ai.prompt.version": "3"})
    assert (found.prompt_name, found.prompt_version) == ("analyze-code", "3")
    assert read({"gen_ai.prompt.name": "analyze-code"}).prompt_version is None


def test_a_decisions_model_and_tokens_are_read() -> None:
    """As OpenInference's spec/decision_spans.md names them."""
    found = read(
        {
            "openinference.span.kind": "DECISION",
            "decision.request.model_name": "jev-latest",
            "decision.response.model_name": "jev-1",
            "decision.provider": "typesafe",
            "decision.token_count.input": 120,
            "decision.token_count.output": 3,
        }
    )
    assert (found.model, found.request_model, found.provider) == ("jev-1", "jev-latest", "typesafe")
    assert (found.tokens.input, found.tokens.output, found.tokens.total) == (120, 3, 123)


def test_links_are_read_each_once_and_only_with_ids_of_their_length() -> None:
    good = Span.Link(trace_id=b"\x02" * 16, span_id=b"\x03" * 8)
    bad = Span.Link(trace_id=b"\x02" * 3, span_id=b"\x03" * 8)
    found = read({}, links=[bad, good, good])
    assert found.links == (SpanLink(trace_id="02" * 16, span_id="03" * 8),)
    many = [Span.Link(trace_id=bytes([n]) * 16, span_id=b"\x03" * 8) for n in range(1, 200)]
    assert len(read({}, links=many).links) == MAX_LINKS


def test_the_index_reads_links_from_the_wire_as_everybody_else_does() -> None:
    export = ExportTraceServiceRequest()
    span = otlp_span({}, links=[Span.Link(trace_id=b"\x02" * 16, span_id=b"\x03" * 8)])
    export.resource_spans.add().scope_spans.add().spans.append(span)
    on_the_wire = Export.FromString(export.SerializeToString())
    assert list(export_facts(on_the_wire)) == list(export_facts(export))
    assert next(export_facts(export)).links


def test_resource_tells_service_version_and_environment() -> None:
    resource = {"service.name": "shop", "service.version": "1.2", "deployment.environment": "prod"}
    found = facts(otlp_span({"langfuse.environment": "other", "langfuse.release": "9"}), resource)
    assert (found.service, found.service_version, found.environment) == ("shop", "1.2", "prod")
    assert read({"langfuse.environment": "stage", "langfuse.release": "9"}).service_version == "9"


def test_times_never_run_backwards() -> None:
    unfinished = facts(otlp_span({}, end_time_unix_nano=0), {})
    assert (unfinished.start_unix_ns, unfinished.duration_ns) == (START, 0)
    unstarted = facts(otlp_span({}, start_time_unix_nano=0), {})
    assert unstarted.duration_ns == 0


# written down from the payloads by eye: (name, kind, input, output, cost, tool)
WEATHER_RUN = [
    ("chat gpt-4o", ObservationKind.LLM, 183, 5, 0.0005075, None),
    ("execute_tool get_weather", ObservationKind.TOOL, None, None, None, "get_weather"),
    ("chat gpt-4o", ObservationKind.LLM, 223, 29, 0.0008475, None),
    ("execute_tool search_docs", ObservationKind.TOOL, None, None, None, "search_docs"),
    ("chat gpt-4o", ObservationKind.LLM, 423, 100, 0.0020575, None),
    ("invoke_agent weather", ObservationKind.AGENT, None, None, None, None),
]


@pytest.mark.parametrize("name", ["pydantic_ai_v5_plain", "pydantic_ai_v5_openinference"])
def test_a_pydantic_ai_run_reads_the_same_with_and_without_openinference(name: str) -> None:
    found = list(export_facts(payload(name)))
    told = [(f.name, f.kind, f.tokens.input, f.tokens.output, f.cost_usd, f.tool) for f in found]
    assert told == WEATHER_RUN
    assert found[-1].aggregated_tokens == Tokens(input=829, output=134, total=963)
    assert {(f.service, f.service_version, f.environment, f.agent) for f in found} == {
        ("weather-agent", "1.4.2", "test", "weather")
    }
    assert {f.session for f in found} == {None}


def test_the_older_data_format_reads_the_same() -> None:
    found = list(export_facts(payload("pydantic_ai_v2_openinference")))
    told = [(f.kind, f.tokens.input, f.tokens.output, f.cost_usd, f.tool) for f in found]
    assert told == [row[1:] for row in WEATHER_RUN]


@pytest.mark.parametrize("name", ["pydantic_ai_v5_tool_error", "pydantic_ai_v5_tool_retry"])
def test_numbers_equal_a_plain_walk_over_the_payload(name: str) -> None:
    request = payload(name)
    found = list(export_facts(request))
    for kind, key in (("input", "gen_ai.usage.input_tokens"), ("output", "gen_ai.usage.output_tokens")):
        walked = sum(
            attribute.value.int_value
            for span in all_spans(request)
            for attribute in span.attributes
            if attribute.key == key
        )
        assert sum(getattr(f.tokens, kind) or 0 for f in found) == walked > 0
    assert [f.is_error for f in found] == [span.status.code == 2 for span in all_spans(request)]


def test_only_the_spans_of_one_trace_are_read_if_asked() -> None:
    request = payload("pydantic_ai_v5_plain")
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = b"\x07" * 16
    found = list(export_facts(request, trace_id=b"\x07" * 16))
    assert [f.trace_id for f in found] == ["07" * 16]


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.binary(max_size=8)
    | st.sampled_from(["UNKNOWN", "LLM", "{", '{"total_cost": "x"}', "[]", "-1", "NaN", "[" * 2000])
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), values, max_size=12))
def test_no_attribute_whatsoever_raises(attributes: dict[str, Any]) -> None:
    found = read(attributes)
    numbers = [found.cost_usd, found.time_to_first_token_seconds, found.tokens.total]
    assert all(number is None or (math.isfinite(number) and number >= 0) for number in numbers)


def test_the_module_is_pure() -> None:
    forbidden = {"asyncio", "time", "random", "os", "logging", "aiohttp", "sqlite3", "starlette", "pathlib"}
    for name in ("__init__", "conventions", "facts", "prices", "sources", "values"):
        path = Path(collector.spans.__path__[0]) / f"{name}.py"
        imported = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not {name.split(".")[0] for name in imported} & forbidden, path


def test_every_key_of_the_tables_is_decoded() -> None:
    named = {source.key for row in (*TABLE.values(), *AGGREGATED.values()) for source in row}
    assert named | set(KINDS) <= KEYS


CLAUDE_CODE = {
    "span.type": "llm_request",
    "model": "claude-sonnet-4-5",
    "input_tokens": 1000,
    "output_tokens": 50,
    "cache_read_tokens": 400,
    "cache_creation_tokens": 100,
    "ttft_ms": 250,
}


def test_claude_code_counts_input_without_its_cached_part() -> None:
    found = read(CLAUDE_CODE)
    assert found.kind is ObservationKind.LLM
    assert found.tokens == Tokens(input=1500, output=50, total=1550, cache_read=400, cache_write=100)
    assert found.input_excluded_cache
    assert found.model == "claude-sonnet-4-5"
    assert found.time_to_first_token_seconds == 0.25


def test_bare_names_say_nothing_on_other_spans() -> None:
    assert read({"model": "spring 2026", "input_tokens": 3, "tool_name": "drill"}) == read({})


def test_what_the_service_added_is_not_the_clients_word() -> None:
    client = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "our-own-model"}
    added = {"mlflow.spanType": "TOOL", "mlflow.llm.cost": '{"total_cost": 3.0}'}
    marked = {**client, **added, "sidespan.added": list(added)}
    assert facts(otlp_span(marked), {}, is_marked=True) == read(client)


def test_a_clients_own_mark_takes_nothing_away_from_what_it_says() -> None:
    client = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "our-own-model"}
    assert read({**client, "sidespan.added": list(client)}) == read(client)


@pytest.mark.parametrize("name", ["ToolRetryError", "ModelRetry"])
def test_pydantic_ai_1_tells_a_retry_by_its_exception_alone(name: str) -> None:
    status = Status(code=Status.STATUS_CODE_ERROR)
    found = read({"error.type": f"pydantic_ai.exceptions.{name}"}, status=status)
    assert found.is_recovered_retry
    assert not read({"error.type": "builtins.ValueError"}, status=status).is_recovered_retry
    assert not read({"error.type": f"pydantic_ai.exceptions.{name}"}).is_recovered_retry


def test_facts_hold_nothing_but_their_fields() -> None:
    names = {field.name for field in fields(SpanFacts)}
    for kind in ObservationKind:
        known = read(dict.fromkeys(KEYS, "7") | {"openinference.span.kind": kind.value})
        assert vars(known).keys() <= names
        assert vars(known.tokens).keys() <= {field.name for field in fields(Tokens)}
        assert known == replace(known)


def test_what_is_remembered_of_values_and_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_module, "MAX_REMEMBERED", 3)
    monkeypatch.setattr(told_names, "MAX_REMEMBERED", 3)
    for number in range(10):
        export = ExportTraceServiceRequest()
        span = otlp_span({"gen_ai.request.model": f"model-{number}", f"attribute-{number}": "x"})
        export.resource_spans.add().scope_spans.add().spans.append(span)
        [known] = export_facts(Export.FromString(export.SerializeToString()))
        assert known.model == f"model-{number}"
        assert len(facts_module._remembered) <= 3
        assert len(told_names._remembered) <= 3


def test_an_object_that_comes_again_is_read_anew() -> None:
    """A reader may change the object that it is given."""
    export = ExportTraceServiceRequest()
    spans = export.resource_spans.add().scope_spans.add().spans
    for _ in range(2):
        spans.append(otlp_span({"langfuse.observation.usage_details": {"input": 10, "output": 2}}))
    first, second = export_facts(Export.FromString(export.SerializeToString()))
    assert first == second
    assert second.tokens == Tokens(input=10, output=2, total=12)
