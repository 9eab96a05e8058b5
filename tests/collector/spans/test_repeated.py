"""What is read once for many spans is, for each of them, what is read of it alone."""

from random import Random
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from collector.spans import repeated
from collector.spans.facts import export_facts
from collector.spans.keys import KEYS
from collector.spans.wire import Export
from tests.support.spans import otlp_span

NAMES = sorted(KEYS | {"mlflow.traceTag.a", "langfuse.trace.metadata.b", "unknown"})
# few, so that they come again; some differ in their type alone
VALUES: list[Any] = [
    "chat",
    "LLM",
    "execute_tool",
    "gpt-4o",
    "",
    "7",
    '"7"',
    7,
    1,
    True,
    1.0,
    0.5,
    ["a", "b"],
    None,
]
SPAN_NAMES = ["chat gpt-4o", "execute_tool search", "model._prepare_chat_with_tools", ""]
FAILED = Status(code=Status.STATUS_CODE_ERROR, message="no")


def some_export(random: Random) -> ExportTraceServiceRequest:
    export = ExportTraceServiceRequest()
    resource_spans = export.resource_spans.add()
    if random.random() < 0.5:
        resource_spans.resource.attributes.add(key="service.name").value.string_value = "shop"
    spans = resource_spans.scope_spans.add().spans
    for names in [random.sample(NAMES, 12) for _ in range(5)]:
        for _ in range(8):
            said = {name: random.choice(VALUES) for name in names}
            status = FAILED if random.random() < 0.2 else None
            spans.append(otlp_span(said, name=random.choice(SPAN_NAMES), status=status))
    return export


@pytest.mark.parametrize("seed", range(20))
def test_spans_that_say_the_same_have_the_facts_of_each_alone(seed: int) -> None:
    export = some_export(Random(seed))
    body = export.SerializeToString()
    # the first reading remembers what the second one finds
    first, second = (list(export_facts(Export.FromString(body))) for _ in range(2))
    assert first == second == list(export_facts(export))


def test_a_value_of_another_type_is_another_value() -> None:
    texts = []
    for value in (1, True, 1.0, "1"):
        export = ExportTraceServiceRequest()
        export.resource_spans.add().scope_spans.add().spans.append(otlp_span({"gen_ai.request.model": value}))
        [found] = export_facts(Export.FromString(export.SerializeToString()))
        texts.append(found.model)
    assert texts == ["1", "true", "1.0", "1"]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated, "MAX_REMEMBERED", 3)
    repeated._remembered.clear()
    for number in range(10):
        export = ExportTraceServiceRequest()
        said = {"gen_ai.request.model": f"one-of-many-{number}"}
        long = {"gen_ai.agent.name": "a" * repeated.MAX_REMEMBERED_BYTES}
        spans = export.resource_spans.add().scope_spans.add().spans
        spans.extend((otlp_span(said), otlp_span(said | long)))
        [known, other] = export_facts(Export.FromString(export.SerializeToString()))
        assert known.model == other.model == f"one-of-many-{number}"
        assert len(repeated._remembered) <= 3
        assert all(len(str(said)) < repeated.MAX_REMEMBERED_BYTES for said in repeated._remembered)
