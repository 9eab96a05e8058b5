"""Why a trace looks as it does: every fact with its source, every change with its step and reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.answers.explain import WHY, explain
from collector.cli.doctor import explain_trace, render_explanation
from collector.harmonise.parts import Part
from collector.model.errors import Misconfigured
from collector.settings import HarmoniseSettings, Settings
from collector.settings.processors import (
    ConditionSettings,
    DropSettings,
    Processor,
    SlimSettings,
    TagSettings,
)
from collector.spans.conventions import TABLE
from collector.spans.facts import facts
from collector.spans.sources import CONVENTIONS, DEFINED_AT, conventions, sourced_facts
from tests.support.otlp import DATA, all_spans, trace_ids_of
from tests.support.spans import otlp_span, payload

ALL = frozenset(Part)

SPOKEN = {
    "genai": ({"gen_ai.operation.name": "chat"}, ["OpenTelemetry GenAI"]),
    "openinference": ({"llm.token_count.prompt": 3}, ["OpenInference"]),
    "openllmetry": ({"llm.usage.total_tokens": 3, "traceloop.span.kind": "task"}, ["OpenLLMetry"]),
    "vercel": ({"ai.operationId": "ai.toolCall"}, ["Vercel AI SDK"]),
    "several": (
        {"gen_ai.system": "x", "openinference.span.kind": "LLM"},
        ["OpenInference", "OpenTelemetry GenAI"],
    ),
    "none_that_is_known": ({"app.thing": 1}, []),
}


@pytest.mark.parametrize(("attributes", "spoken"), SPOKEN.values(), ids=SPOKEN)
def test_conventions_are_recognised(attributes: dict[str, Any], spoken: list[str]) -> None:
    assert conventions(attributes) == spoken


@pytest.mark.parametrize(
    ("field", "source"),
    [(field, source) for field, row in TABLE.items() for source in row if not source.part],
    ids=lambda value: getattr(value, "key", value),
)
def test_a_fact_names_the_attribute_that_it_was_read_from(field: str, source: Any) -> None:
    attributes: dict[str, Any] = {source.key: 7}
    if source.only is not None:
        attributes["mlflow.spanType"] = source.only.value
    span = otlp_span(attributes)
    found = {fact.name: fact.source for fact in sourced_facts(span, {})}
    if field == "error_type":  # only said of spans that failed
        return
    assert found[field] == source.key


def test_every_convention_says_where_it_is_defined() -> None:
    assert set(CONVENTIONS.values()) == set(DEFINED_AT)


def test_no_fact_is_left_out_and_none_is_invented() -> None:
    for span in all_spans(payload("pydantic_ai_v5_openinference")):
        known = facts(span, {"service.name": "s"})
        found = {fact.name: fact.value for fact in sourced_facts(span, {"service.name": "s"})}
        assert found["service"] == "s"
        assert found.get("model") == known.model
        assert found.get("input_tokens") == (None if known.tokens.input is None else str(known.tokens.input))
        assert found.get("session") == known.session


def test_a_price_of_the_list_is_told_as_such() -> None:
    span = otlp_span(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 5,
        }
    )
    assert {f.name: f.source for f in sourced_facts(span, {})}["cost_usd"] == "the public price list"


def explained(name: str, *processors: Processor, parts: frozenset[Part] = ALL) -> list[dict[str, Any]]:
    spans: list[dict[str, Any]] = explain(payload(name), None, parts=parts, processors=processors)["spans"]
    return spans


def changes(span: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(change["step"], change["key"]): change["change"] for change in span["changes"]}


def test_each_step_tells_what_it_changed_and_why() -> None:
    tag = TagSettings(type="tag", when=ConditionSettings(name="chat *"), set={"tier": "gold"})
    chat = explained("benchmark_trace", tag, SlimSettings(type="slim"))[0]
    found = changes(chat)
    assert found["harmonise", "mlflow.spanType"] == "added"
    assert found["tag", "tier"] == "added"
    assert found["slim", "logfire.json_schema"] == "removed"
    assert all(change["why"] for change in chat["changes"])


@pytest.mark.parametrize("name", ["vercel_ai_v6", "langchain_openinference", "openai_openllmetry"])
def test_whatever_is_added_has_a_reason(name: str) -> None:
    found = [change for span in explained(name) for change in span["changes"]]
    assert found
    assert all(change["why"] in WHY.values() for change in found)


def test_a_dropped_span_says_by_what() -> None:
    spans = explained("benchmark_trace", DropSettings(type="drop", when=ConditionSettings(name="chat *")))
    assert {span["dropped_by"] for span in spans if span["name"].startswith("chat")} == {"drop"}
    assert {span["dropped_by"] for span in spans if not span["name"].startswith("chat")} == {None}


def test_switched_off_nothing_is_changed() -> None:
    assert all(span["changes"] == [] for span in explained("benchmark_trace", parts=frozenset()))


def test_only_the_trace_that_was_asked_for_is_told() -> None:
    both = payload("benchmark_trace")
    both.MergeFrom(payload("vercel_ai_v6"))
    (wanted,) = trace_ids_of(payload("vercel_ai_v6"))
    found = explain(both, wanted, parts=ALL)["spans"]
    assert len(found) == len(all_spans(payload("vercel_ai_v6")))


def test_a_large_trace_is_told_in_part() -> None:
    export = ExportTraceServiceRequest()
    scope = export.resource_spans.add().scope_spans.add()
    scope.spans.extend(otlp_span({}, span_id=(n + 1).to_bytes(8, "big")) for n in range(600))
    found = explain(export, None, parts=ALL)
    assert (len(found["spans"]), found["spans_omitted"]) == (500, 100)


@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_doctor_explains_a_file(form: str, tmp_path: Path) -> None:
    file = DATA / "openai_openllmetry.binpb"
    if form == "json":
        file = tmp_path / "trace.json"
        file.write_text(as_otlp_json(payload("openai_openllmetry")))
    found = explain_trace(
        str(file), Settings(harmonise=HarmoniseSettings(types=False)), url="http://127.0.0.1:9"
    )
    text = render_explanation(found)
    assert "conventions: OpenTelemetry GenAI" in text
    assert "user = web-user   from enduser.id" in text
    assert "harmonise added mlflow.traceTag.mlflow.traceName = openai.chat" in text
    assert "mlflow.spanType" not in text


def as_otlp_json(export: ExportTraceServiceRequest) -> str:
    document = json_format.MessageToDict(export)
    for resource_spans in document["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            for span, original in zip(scope_spans["spans"], all_spans_of(export, scope_spans), strict=True):
                span["traceId"], span["spanId"] = original.trace_id.hex(), original.span_id.hex()
                if original.parent_span_id:
                    span["parentSpanId"] = original.parent_span_id.hex()
    return json.dumps(document)


def all_spans_of(export: ExportTraceServiceRequest, document: dict[str, Any]) -> list[Any]:
    names = [span["name"] for span in document["spans"]]
    return [span for span in all_spans(export) if span.name in names]


@pytest.mark.parametrize(
    ("trace", "told"),
    [
        ("nothing", "no such file"),
        (str(DATA.parent / "conftest.py"), "not an ExportTraceServiceRequest"),
    ],
    ids=["neither_file_nor_id", "a_file_of_another_kind"],
)
def test_doctor_says_what_it_cannot_explain(trace: str, told: str) -> None:
    with pytest.raises(Misconfigured, match=told):
        explain_trace(trace, Settings(), url="http://127.0.0.1:9")
