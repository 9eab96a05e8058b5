"""Which spans may carry scores: reading their facts tells it, so that nobody searches their bytes."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.model.faults import Faults
from collector.spans import facts
from collector.spans.facts import export_facts
from collector.spans.told_names import RESULT
from collector.spans.wire import Export
from tests.support.spans import payload

Put = Callable[[Span], object]


def attribute(name: str) -> Put:
    return lambda span: span.attributes.add(key=name)


@pytest.mark.parametrize(
    ("put", "expected"),
    [
        pytest.param(lambda span: None, 0, id="none"),
        pytest.param(lambda span: span.events.add(name="exception"), 0, id="another_event"),
        pytest.param(lambda span: span.events.add(name=RESULT), 1, id="event"),
        pytest.param(attribute("annotations.0.annotation.name"), 1, id="annotation"),
        pytest.param(attribute("session.evaluations.7.evaluation.score"), 1, id="evaluation"),
        pytest.param(attribute("a" * 20_000 + ".evaluation."), 1, id="name_too_long_to_remember"),
    ],
)
@pytest.mark.parametrize("reading", [ExportTraceServiceRequest, Export], ids=["list", "map"])
def test_reading_facts_tells_which_spans_may_carry_scores(reading: Any, put: Put, expected: int) -> None:
    export = payload("pydantic_ai_v5_plain")
    span = export.resource_spans[0].scope_spans[0].spans[0]
    put(span)
    scored: list[bytes] = []
    list(export_facts(reading.FromString(export.SerializeToString()), scored=scored))
    assert scored == [span.span_id] * expected


def test_a_bug_in_reading_facts_costs_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(facts, "read", bug)
    scored: list[bytes] = []
    found = list(export_facts(payload("pydantic_ai_v5_plain"), faults=Faults(), scored=scored))
    assert [each.span_id for each in found] == [id.hex() for id in scored]
