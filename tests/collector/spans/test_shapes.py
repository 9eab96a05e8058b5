"""Attributes read from their bytes are what protobuf's parser makes of them, however they are written."""

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.spans import repeated, shapes
from collector.spans.facts import export_facts
from collector.spans.wire import Export
from tests.support.spans import otlp_span

MODEL, AGENT = b"gen_ai.request.model", b"gen_ai.agent.name"


def field(tag: int, content: bytes) -> bytes:
    """A field with bytes or a message in it."""
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80, size >> 7])
    return bytes([tag]) + length + content


def said(text: bytes) -> bytes:
    return field(0x12, field(0x0A, text))


def named(name: bytes) -> bytes:
    return field(0x0A, name)


ATTRIBUTES: dict[str, list[bytes]] = {
    "plain": [named(MODEL) + said(b"gpt"), named(AGENT) + said(b"ann")],
    "value_first": [said(b"gpt") + named(MODEL), named(AGENT) + said(b"ann")],
    "no_value": [named(MODEL), named(AGENT) + said(b"ann")],
    "empty_value": [named(MODEL) + field(0x12, b"")],
    "nothing": [b"", named(MODEL) + said(b"gpt")],
    "no_name": [said(b"gpt"), named(MODEL) + said(b"gpt")],
    "long_name": [named(b"a" * 300) + said(b"x"), named(MODEL) + said(b"gpt")],
    "long_value": [named(MODEL) + said(b"g" * 200)],
    "twice": [named(MODEL) + said(b"first"), named(MODEL) + said(b"last")],
    "unknown_field": [named(MODEL) + field(0x7A, b"x") + said(b"gpt")],
}


def body_of(attributes: list[bytes]) -> bytes:
    span = otlp_span({"mlflow.spanInputs": "x"}).SerializeToString() + b"".join(
        field(0x4A, each) for each in attributes
    )
    return field(0x0A, field(0x12, field(0x12, span)))


@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_attributes_are_what_protobufs_parser_makes_of_them(attributes: list[bytes]) -> None:
    body = body_of(attributes)
    expected = list(export_facts(ExportTraceServiceRequest.FromString(body)))
    # the first reading remembers what the second one finds
    assert [list(export_facts(Export.FromString(body))) for _ in range(2)] == [expected, expected]


@pytest.mark.parametrize("other", ["value_first", "no_value", "twice", "unknown_field", "empty_value"])
def test_a_shape_is_not_taken_for_another_one(other: str) -> None:
    bodies = [body_of(ATTRIBUTES[name]) for name in ("plain", other, "plain")]
    found = [list(export_facts(Export.FromString(body))) for body in bodies]
    assert found == [list(export_facts(ExportTraceServiceRequest.FromString(body))) for body in bodies]


def test_a_resource_is_read_from_its_bytes() -> None:
    export = ExportTraceServiceRequest()
    for name in ("shop", "desk", "shop", ""):
        resource_spans = export.resource_spans.add()
        if name:
            resource_spans.resource.attributes.add(key="service.name").value.string_value = name
        resource_spans.scope_spans.add().spans.append(otlp_span({}))
    found = export_facts(Export.FromString(export.SerializeToString()))
    assert [span.service for span in found] == ["shop", "desk", "shop", None]


def test_what_is_remembered_of_shapes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "MAX_REMEMBERED", 3)
    shapes._remembered.clear()
    shapes._latest.clear()
    for number in range(10):
        attributes = [named(b"name-%d" % each) + said(b"x") for each in range(number)]
        list(export_facts(Export.FromString(body_of(attributes))))
        assert len(shapes._remembered) <= 3
        assert len(shapes._latest) <= 3
    shapes._remembered.clear()
    repeated._remembered.clear()
    many = [named(b"name-%d" % number) + said(b"x") for number in range(shapes.MAX_REMEMBERED_NAMES + 1)]
    list(export_facts(Export.FromString(body_of(many))))
    assert not shapes._remembered
    assert not repeated._remembered
