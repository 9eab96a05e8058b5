"""Scores in the running service: from log records, from spans and from MLflow, each counted once."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from collector.cli import remote
from tests.support.forked import sidespan_command
from tests.support.logs import result
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import new_trace_id
from tests.support.sidespan import Sidespan
from tests.system.test_index import ask
from tests.system.test_logs import (
    assessments,
    send_logs,
    send_spans,
    span_of,
    trace_in,
    until,
    wait_processed,
)


@pytest.fixture(scope="module")
def service(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidespan]:
    data_dir = tmp_path_factory.mktemp("scores") / "data"
    service = Sidespan(data_dir=data_dir, mlflow_url=mlflow_server.url)
    service.start()
    service.wait_index()
    yield service
    service.kill()


def told(service: Sidespan, trace_id: bytes) -> list[tuple[str, float | None, str | None]]:
    """Name, value and label of each score of a trace, as the index lists them; none without the trace."""
    rows = ask(service, "/-/traces", limit=1000, since=0)["traces"]
    found = [row["scores"] for row in rows if row["trace_id"] == trace_id.hex()]
    return sorted((one["name"], one["value"], one["label"]) for scores in found for one in scores)


def request(service: Sidespan, method: str, path: str, body: Any = None) -> Any:
    """A request to MLflow, through the proxy."""
    asked = urllib.request.Request(
        f"{service.url}/api/3.0/mlflow/traces/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.loads(answer.read() or b"{}")


def feedback(trace_id: bytes, name: str, value: Any, **more: Any) -> dict[str, Any]:
    said = {
        "assessment_name": name,
        "trace_id": f"tr-{trace_id.hex()}",
        "source": {"source_type": "HUMAN", "source_id": "ann"},
        "create_time": "2026-01-01T00:00:00Z",
        "last_update_time": "2026-01-01T00:00:00Z",
        "feedback": {"value": value},
    }
    return {"assessment": said | more}


def test_a_score_is_known_before_mlflow_has_it_and_counts_once_when_it_has(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str
) -> None:
    """From a log record, from a span's attributes, and for a session, whose last trace MLflow knows."""
    first, last = new_trace_id(), new_trace_id()
    session = f"session-{experiment_id}"
    early = span_of(first, session__id=session, annotations__0__annotation__name="tone")
    early.attributes.add(key="annotations.0.annotation.label").value.string_value = "kind"
    late = span_of(last, session__id=session)
    late.start_time_unix_nano += 10**9
    late.end_time_unix_nano += 2 * 10**9
    send_spans(service, experiment_id, early)
    send_spans(service, experiment_id, late)
    until(lambda: (trace_in(mlflow_server, first) and trace_in(mlflow_server, last)) or None)
    about = {"trace_id": first, "span_id": early.span_id}
    send_logs(
        service,
        experiment_id,
        result("helpful", value=0.25, label="poor", explanation="It is rude.", **about),
        result("correct", value=1.0, label="pass", **about),
        result("solved", value=0.5, session__id=session),
    )
    expected = [("correct", 1.0, "pass"), ("helpful", 0.25, "poor"), ("tone", None, "kind")]
    until(lambda: told(service, first) == expected or None)
    wait_processed(service)
    until(lambda: len(assessments(mlflow_server, first)) == 3 or None)
    until(lambda: told(service, last) == [("solved", 0.5, None)] or None)
    # MLflow's own word on them changes nothing
    set_tag = {"key": "seen", "value": "yes"}
    request(service, "PATCH", f"tr-{first.hex()}/tags", set_tag)
    until(lambda: ask(service, "/-/traces", tag="seen=yes", experiment_id=experiment_id)["traces"] or None)
    assert told(service, first) == expected
    remote.post_json(service.url, "/-/index/backfill", {"experiment_id": experiment_id, "restart": True})
    assert told(service, first) == expected and told(service, last) == [("solved", 0.5, None)]
    scores = ask(service, f"/-/traces/{first.hex()}")["scores"]
    assert {one["name"]: one["span_id"] for one in scores} == dict.fromkeys(
        ("correct", "helpful", "tone"), early.span_id.hex()
    )
    assert "rude" not in json.dumps(scores), "the explanation is content"
    of_session = ask(service, f"/-/sessions/{session}")["turns"]
    assert [[one["name"] for one in turn["scores"]] for turn in of_session][1:] == [["solved"]]
    [group] = ask(
        service,
        "/-/traces/stats",
        of="scores",
        by="score",
        score="helpful",
        metric=["count", "score_mean"],
        experiment_id=experiment_id,
    )["groups"]
    assert group == {"key": {"score": "helpful"}, "values": {"count": 1, "score_mean": 0.25}}
    listed = sidespan_command("summary", "traces", "--score", "helpful<0.5", "--json", "--url", service.url)
    assert [row["trace_id"] for row in json.loads(listed.stdout)["traces"]] == [first.hex()]
    shown = sidespan_command("summary", "trace", first.hex(), "--url", service.url)
    assert "helpful 0.25 poor" in shown.stdout


def test_what_clients_say_change_and_delete_in_mlflow_through_the_proxy_is_seen(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str
) -> None:
    trace_id, other = new_trace_id(), new_trace_id()
    send_spans(service, experiment_id, span_of(trace_id))
    send_spans(service, experiment_id, span_of(other))
    until(lambda: (trace_in(mlflow_server, trace_id) and trace_in(mlflow_server, other)) or None)
    path = f"tr-{trace_id.hex()}/assessments"
    first = request(service, "POST", path, feedback(trace_id, "useful", True))["assessment"]
    request(service, "POST", path, feedback(trace_id, "comment", "It is fine.\nReally."))
    expectation = feedback(trace_id, "expected", None)
    expectation["assessment"] |= {"expectation": {"value": "Paris"}}
    del expectation["assessment"]["feedback"]
    request(service, "POST", path, expectation)
    comment = ("comment", None, None)
    until(lambda: told(service, trace_id) == [comment, ("useful", 1.0, "pass")] or None)
    mine = f"{path}/{first['assessment_id']}"
    change = {"assessment": {"feedback": {"value": 0.5}}, "update_mask": "feedback"}
    change["assessment"] |= {"assessment_id": first["assessment_id"], "trace_id": f"tr-{trace_id.hex()}"}
    request(service, "PATCH", mine, change)
    until(lambda: told(service, trace_id) == [comment, ("useful", 0.5, None)] or None)
    better = feedback(trace_id, "useful", 0.75, overrides=first["assessment_id"])
    request(service, "POST", path, better)
    until(lambda: told(service, trace_id) == [comment, ("useful", 0.75, None)] or None)
    # one that Sidespan has delivered, of which only the log record was seen
    send_logs(service, experiment_id, result("helpful", value=0.5, trace_id=other))
    [delivered] = until(lambda: assessments(mlflow_server, other) or None)
    until(lambda: told(service, other) == [("helpful", 0.5, None)] or None)
    wait_processed(service)
    request(service, "DELETE", f"tr-{other.hex()}/assessments/{delivered['assessment_id']}")

    def is_gone() -> bool | None:
        request(service, "PATCH", f"tr-{other.hex()}/tags", {"key": "looked", "value": "again"})
        return told(service, other) == [] or None

    until(is_gone)


def test_backfill_reads_mlflows_assessments_and_verify_compares_them(
    mlflow_server: MlflowServer, service: Sidespan, experiment_id: str
) -> None:
    trace_id = new_trace_id()
    send_spans(service, experiment_id, span_of(trace_id))
    until(lambda: trace_in(mlflow_server, trace_id) or None)
    past = urllib.request.Request(
        f"{mlflow_server.url}/api/3.0/mlflow/traces/tr-{trace_id.hex()}/assessments",
        data=json.dumps(feedback(trace_id, "grade", "B")).encode(),
        headers={"content-type": "application/json"},
    )
    urllib.request.urlopen(past, timeout=60).close()
    assert told(service, trace_id) == []
    [before] = ask(service, "/-/index/verify", experiment_id=experiment_id)["experiments"]
    assert before["scores"]["difference"] == -1
    remote.post_json(service.url, "/-/index/backfill", {"experiment_id": experiment_id})
    assert told(service, trace_id) == [("grade", None, "B")]
    [after] = ask(service, "/-/index/verify", experiment_id=experiment_id)["experiments"]
    assert after["scores"] == {"index": 1, "mlflow": 1, "archived": 0, "difference": 0}
