"""One request in 50 holds a span that MLflow refuses with its whole batch: all the others arrive."""

import itertools

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.cli import remote
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import all_spans, export
from tests.support.senders import Senders
from tests.support.sidespan import Sidespan


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_poison_in_1_of_50_requests_costs_only_the_poison_spans(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    numbers = itertools.count(1)
    poison: set[tuple[str, str]] = set()

    def build() -> ExportTraceServiceRequest:
        request = export(spans=3)
        if next(numbers) % 50 == 0:
            span = all_spans(request)[1]
            # MLflow answers 400 to a session id over 250 characters, for the whole request
            span.attributes.add(key="session.id").value.string_value = "s" * 251
            poison.add((f"tr-{span.trace_id.hex()}", span.span_id.hex()))
        return request

    # harmonising would mend this one
    sidespan.environment = {"SIDESPAN_HARMONISE__CAPS": "false"}
    sidespan.index = False
    sidespan.start()
    with Senders(
        sidespan.port,
        headers={"x-mlflow-experiment-id": experiment_id},
        pause_seconds=0.02,
        build=build,
    ) as senders:
        senders.wait_for(600)
    sidespan.wait_delivered(150)

    acknowledged_poison = poison & senders.acknowledged
    assert acknowledged_poison
    stored = mlflow_server.spans(experiment_id)
    assert senders.acknowledged - acknowledged_poison - stored == set()
    letters = remote.get_json(sidespan.url, "/-/dead-letters?limit=1000")
    assert letters["total"] == len(acknowledged_poison)
    parked = {f"tr-{letter['trace_ids'][0]}" for letter in letters["dead_letters"]}
    assert parked == {trace_id for trace_id, _ in acknowledged_poison}
    assert {letter["span_count"] for letter in letters["dead_letters"]} == {1}
    assert all("250" in letter["message"] for letter in letters["dead_letters"])
