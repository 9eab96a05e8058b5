"""Conditions, limit, slim, tag and drop, and the list they stand in."""

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.harmonise.apply import harmonise
from collector.harmonise.parts import Part
from collector.model.errors import Misconfigured
from collector.processors import pipeline
from collector.processors.conditions import matcher
from collector.processors.limit import limit
from collector.processors.pipeline import outgoing
from collector.processors.slim import slim
from collector.settings import load
from collector.settings.processors import (
    ConditionSettings,
    DropSettings,
    LimitSettings,
    Processor,
    SlimSettings,
    TagSettings,
)
from collector.spans.facts import decode_attributes, export_facts
from tests.support.otlp import all_spans
from tests.support.spans import otlp_span, payload

HEALTH = otlp_span(
    {"http.route": "/healthz", "http.status": 200, "ok": True},
    name="GET /healthz",
    kind=Span.SPAN_KIND_SERVER,
    status=Status(code=Status.STATUS_CODE_ERROR),
)
CONDITIONS: dict[str, tuple[dict[str, Any], bool]] = {
    "name": ({"name": "GET /healthz"}, True),
    "another_name": ({"name": "GET"}, False),
    "name_by_a_star": ({"name": "GET *"}, True),
    "scope": ({"scope": "opentelemetry.instrumentation.*"}, True),
    "another_scope": ({"scope": "pydantic-ai"}, False),
    "service": ({"service": "sh?p"}, True),
    "another_service": ({"service": "shop2"}, False),
    "kind": ({"kind": "server"}, True),
    "another_kind": ({"kind": "client"}, False),
    "status": ({"status": "error"}, True),
    "another_status": ({"status": "unset"}, False),
    "attribute": ({"attributes": {"http.route": "/health*"}}, True),
    "attribute_of_any_value": ({"attributes": {"ok": "*"}}, True),
    "attribute_that_is_a_number": ({"attributes": {"http.status": "200"}}, True),
    "attribute_that_is_true": ({"attributes": {"ok": "true"}}, True),
    "another_value": ({"attributes": {"http.route": "/"}}, False),
    "attribute_that_is_not_there": ({"attributes": {"user.id": "*"}}, False),
    "all_of_several": ({"name": "GET*", "kind": "server", "status": "error"}, True),
    "one_of_several_is_not_enough": ({"name": "GET*", "kind": "client"}, False),
}


def around(*spans: Span) -> ExportTraceServiceRequest:
    export = ExportTraceServiceRequest()
    resource_spans = export.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "opentelemetry.instrumentation.asgi"
    scope_spans.spans.extend(spans)
    return export


@pytest.mark.parametrize(("condition", "holds"), CONDITIONS.values(), ids=CONDITIONS)
def test_conditions(condition: dict[str, Any], holds: bool) -> None:
    export = around(HEALTH)
    resource_spans = export.resource_spans[0]
    found = matcher(ConditionSettings(**condition))(HEALTH, resource_spans.scope_spans[0], resource_spans)
    assert found is holds


def attributes(span: Span) -> dict[str, Any]:
    return decode_attributes(span.attributes)


def test_long_texts_are_cut_wherever_they_are() -> None:
    span = otlp_span({"a": "x" * 100, "list": ["x" * 100], "map": {"k": "x" * 100}, "b": "short", "n": 5})
    span.events.add(name="e").attributes.add(key="a").value.string_value = "x" * 100
    assert limit(span, LimitSettings(type="limit", value_characters=20))
    cut = "x" * 19 + "…"
    assert attributes(span) == {"a": cut, "list": [cut], "map": {"k": cut}, "b": "short", "n": 5}
    assert attributes_of_event(span) == {"a": cut}


def attributes_of_event(span: Span) -> dict[str, Any]:
    return decode_attributes(span.events[0].attributes)


def test_surplus_attributes_events_and_links_go_and_are_counted() -> None:
    span = otlp_span({"a": 1, "b": 2, "c": 3, "mlflow.spanType": "TOOL"}, dropped_attributes_count=1)
    for name in ("one", "two", "exception"):
        span.events.add(name=name)
    span.links.add()
    assert limit(span, LimitSettings(type="limit", attributes=3, events=2, links=0))
    assert list(attributes(span)) == ["a", "b", "mlflow.spanType"]
    assert [event.name for event in span.events] == ["one", "exception"]
    assert (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count) == (2, 1, 1)


def test_what_is_within_its_bounds_stays() -> None:
    span = otlp_span({"a": "x"})
    assert not limit(span, LimitSettings(type="limit", value_characters=16, attributes=1, events=0, links=0))


SLIM = SlimSettings(type="slim")


def size(export: ExportTraceServiceRequest) -> int:
    return len(export.SerializeToString())


def test_copies_go_and_what_mlflow_and_summaries_read_stays() -> None:
    whole, slimmed = payload("benchmark_trace"), payload("benchmark_trace")
    for export in (whole, slimmed):
        harmonise(export, parts=frozenset(Part), notes={})
    outgoing([SLIM])(slimmed)
    assert size(slimmed) < 0.65 * size(whole)
    for before, after in zip(all_spans(whole), all_spans(slimmed), strict=True):
        kept, gone = attributes(after), attributes(before).keys() - attributes(after).keys()
        assert all(kept[key] == attributes(before)[key] for key in kept)
        assert "mlflow.spanInputs" in kept or "input.value" in kept
        held = "".join(str(value) for value in kept.values())
        for key in gone - {"logfire.json_schema"}:
            assert squashed(attributes(before)[key]) in squashed(held), key
    assert list(export_facts(slimmed)) == list(export_facts(whole))


def squashed(value: Any) -> str:
    return "".join(str(value).split()).replace("\\", "")


def test_a_copy_that_says_something_else_stays() -> None:
    span = otlp_span(
        {
            "gen_ai.input.messages": '[{"role": "user", "parts": [{"content": "Hello"}]}]',
            "llm.input_messages.0.message.content": "Hello",
            "llm.input_messages.1.message.content": "Something else",
            "llm.tools.0.tool.name": "search",
        }
    )
    assert slim(span, SLIM)
    assert list(attributes(span)) == [
        "gen_ai.input.messages",
        "llm.input_messages.1.message.content",
        "llm.tools.0.tool.name",
    ]


def test_text_in_other_scripts_is_found_whatever_its_escapes() -> None:
    span = otlp_span(
        {
            "gen_ai.input.messages": '[{"role": "user", "content": "gr\\u00fc\\u00dfe \\"x\\""}]',
            "llm.input_messages.0.message.content": 'grüße "x"',
        }
    )
    assert slim(span, SLIM)
    assert list(attributes(span)) == ["gen_ai.input.messages"]


def test_each_kind_of_copy_can_be_kept() -> None:
    everything = payload("benchmark_trace")
    outgoing([SlimSettings(type="slim", messages=False, tools=False, schemas=False)])(everything)
    assert everything == payload("benchmark_trace")


def run(export: ExportTraceServiceRequest, *processors: Processor) -> dict[tuple[str, str], int]:
    return dict(outgoing(processors)(export))


def test_tags_are_set_on_what_matches() -> None:
    export = around(otlp_span({"tier": "old"}, name="a"), otlp_span({}, name="b"))
    tag = TagSettings(
        type="tag", when=ConditionSettings(name="a"), set={"tier": "gold", "mlflow.traceTag.team": "search"}
    )
    assert run(export, tag) == {("tag", "changed"): 1}
    first, second = (attributes(span) for span in all_spans(export))
    assert first == {"tier": "gold", "mlflow.traceTag.team": "search"}
    assert second == {}


def test_what_matches_is_dropped_and_its_children_stay() -> None:
    child = otlp_span({}, name="child", parent_span_id=HEALTH.span_id, span_id=b"c" * 8)
    export = around(HEALTH, child, HEALTH)
    assert run(export, DropSettings(type="drop", when=ConditionSettings(name="GET /healthz"))) == {
        ("drop", "dropped"): 2
    }
    assert [span.name for span in all_spans(export)] == ["child"]


def test_the_list_is_worked_through_in_its_order() -> None:
    tag = TagSettings(type="tag", when=ConditionSettings(name="a"), set={"tagged": "yes"})
    drop = DropSettings(type="drop", when=ConditionSettings(attributes={"tagged": "yes"}))
    one, other = around(otlp_span({}, name="a")), around(otlp_span({}, name="a"))
    run(one, tag, drop)
    run(other, drop, tag)
    assert (len(all_spans(one)), len(all_spans(other))) == (0, 1)


def test_a_processor_that_fails_lets_the_span_pass_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(span: Span, settings: Any) -> bool:
        span.name = "half done"
        raise RuntimeError("a bug")

    monkeypatch.setattr(pipeline, "slim", fail)
    export = around(HEALTH)
    assert run(export, SLIM) == {("slim", "failed"): 1}
    assert all_spans(export) == [HEALTH]


def test_nothing_configured_changes_nothing() -> None:
    export = around(HEALTH)
    assert run(export) == {}
    assert export == around(HEALTH)


SETTINGS = """
[[processors]]
type = "redact"
presets = ["email"]
patterns = {ticket = 'T-\\d+'}

[[processors]]
type = "drop"
when = {name = "GET /healthz"}
"""


def test_the_settings_file_lists_them_in_order(tmp_path: Path) -> None:
    (tmp_path / "sidespan.toml").write_text(SETTINGS)
    settings = load(environment={}, file=tmp_path / "sidespan.toml")
    assert [each.type for each in settings.processors] == ["redact", "drop"]


def test_the_environment_lists_them_in_toml() -> None:
    text = '[{type = "limit", value_characters = 1000}]'
    settings = load(environment={"SIDESPAN_PROCESSORS": text})
    assert settings.processors == (LimitSettings(type="limit", value_characters=1000),)


WRONG = {
    "unknown_type": ('type = "shrink"', ["processors.0", "shrink", "redact", "limit"]),
    "no_type": ("presets = []", ["processors.0", "type"]),
    "unknown_key": ('type = "slim"\nmesages = true', ["processors.0.slim.mesages"]),
    "unknown_preset": (
        'type = "redact"\npresets = ["mail"]',
        ["processors.0.redact.presets", "mail", "email"],
    ),
    "no_regular_expression": (
        'type = "redact"\npatterns = {a = "("}',
        ["processors.0.redact.patterns", "not a valid regular expression"],
    ),
    "hash_without_key": ('type = "redact"\nmode = "hash"', ["hash_key"]),
    "limit_of_nothing": ('type = "limit"', ["value_characters"]),
    "condition_of_nothing": ('type = "drop"\nwhen = {}', ["give at least one of name"]),
    "wrong_kind": ('type = "drop"\nwhen = {kind = "web"}', ["processors.0.drop.when.kind", "server"]),
    "a_limit_too_small": ('type = "limit"\nvalue_characters = 2', ["value_characters", "2", "16"]),
}


@pytest.mark.parametrize(("text", "told"), WRONG.values(), ids=WRONG)
def test_a_processor_that_cannot_be_right_stops_the_start(text: str, told: list[str], tmp_path: Path) -> None:
    file = tmp_path / "sidespan.toml"
    file.write_text(f"[[processors]]\n{text}\n")
    with pytest.raises(Misconfigured) as raised:
        load(environment={}, file=file)
    assert all(word in str(raised.value) for word in [*told, str(file)]), str(raised.value)


def test_a_key_of_hashes_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "sidespan.toml"
    file.write_text('[[processors]]\ntype = "redact"\nhash_key = "very-secret"\n')
    with pytest.raises(Misconfigured) as raised:
        load(environment={}, file=file)
    assert "very-secret" not in str(raised.value)
