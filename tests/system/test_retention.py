"""Retention on a real MLflow: what goes, what stays, and that it comes back as it was."""

import json
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.cli import remote
from collector.retention.frames import count_spans, zstd
from tests.support.forked import sidespan_command
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import DATA, agent_export, all_spans, export, new_span_id
from tests.support.retained import V3, Retained, call
from tests.support.sidespan import Sidespan

pytestmark = pytest.mark.slow

RULES = """
[cleanup]
mlflow_share = 1.0
batch_traces = 7

[[retention]]
name = "old"
experiments = ["old-*"]
older_than_seconds = 0

[[retention]]
name = "few"
experiments = ["few-*"]
max_traces = 3
action = "delete"

[[retention]]
name = "failed"
experiments = ["failed-*"]
older_than_seconds = 0
status = ["ERROR"]
tags = { team = "a" }

[[retention]]
name = "all"
experiments = ["all-*"]
older_than_seconds = 0
even_if = ["assessments", "dataset", "run", "tag"]
"""


def start(folder: Path, mlflow: MlflowServer, rules: str = RULES) -> Sidespan:
    settings = folder / "sidespan.toml"
    settings.write_text(rules)
    service = Sidespan(data_dir=folder / "data", mlflow_url=mlflow.url, arguments=("--config", str(settings)))
    service.start()
    return service


@pytest.fixture(scope="module")
def retained(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retained]:
    service = start(tmp_path_factory.mktemp("retention"), mlflow_server)
    service.wait_index()
    yield Retained(service, mlflow_server)
    service.kill()


def experiment(mlflow: MlflowServer, prefix: str) -> str:
    return mlflow.create_experiment(f"{prefix}-{uuid.uuid4().hex[:12]}")


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def test_the_plan_lists_what_would_go_and_changes_nothing(retained: Retained) -> None:
    id = experiment(retained.mlflow, "old")
    ids = retained.send(export(traces=9, spans=2), id)
    before = retained.mlflow.state()
    plan = retained.plan(id, limit=100)["old"]
    assert (plan["traces"], plan["action"], plan["kept"]) == (9, "archive", {})
    assert sorted(plan["trace_ids"]) == ids
    assert plan["bytes"] > 0
    assert plan["oldest_unix_ms"] <= plan["newest_unix_ms"]
    assert retained.mlflow.state() == before
    assert retained.archive(id) == []


def test_an_archived_trace_is_gone_from_mlflow_and_whole_in_the_archive(retained: Retained) -> None:
    id = experiment(retained.mlflow, "old")
    ids = retained.send(export(traces=16, spans=3), id)
    report = retained.run(id)["old"]
    assert (report["traces"], report["spans"], report["kept"]) == (16, 48, {})
    assert retained.ids(id) == set()
    data, manifest = (
        next(file for file in retained.archive(id) if file.name.endswith(end))
        for end in (".otlp.zst", ".manifest.jsonl")
    )
    whole = ExportTraceServiceRequest.FromString(zstd.decompress(data.read_bytes()))
    assert count_spans(whole) == dict.fromkeys(ids, 3)
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert sorted(trace["trace_id"] for line in lines for trace in line["traces"]) == ids
    assert retained.state()["archive"]["experiments"][id] == {"archived": 16}


def test_every_deletion_is_in_the_audit_log(retained: Retained) -> None:
    id = experiment(retained.mlflow, "old")
    (trace_id,) = retained.send(export(), id)
    retained.run(id)
    log = retained.service.data_dir / "logs" / "audit.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    line = next(line for line in lines if trace_id in line.get("message", ""))
    assert (line["resource"], line["action"], line["experiments"]) == ("traces", "delete", [id])
    assert line["rule"] == "retention: old"
    assert any(line["path"] == "/-/retention/run" for line in lines)


def test_the_index_keeps_an_archived_trace_and_says_where_its_content_is(retained: Retained) -> None:
    id = experiment(retained.mlflow, "old")
    (trace_id,) = retained.send(agent_export(), id)
    url = retained.service.url
    until(lambda: remote.get_json(url, f"/-/traces?experiment_id={id}")["traces"])
    before = remote.get_json(url, f"/-/traces/{trace_id}")
    retained.run(id)
    after = remote.get_json(url, f"/-/traces/{trace_id}")
    place = after.pop("archived")
    assert place["file"].startswith(f"{id}/")
    assert (Path(place["archive"]) / place["file"]).exists()
    assert {key: after[key] for key in ("tokens", "span_count", "cost")} == {
        key: before[key] for key in ("tokens", "span_count", "cost")
    }
    tagged = f"/-/traces?experiment_id={id}&tag=sidespan.archived={place['file']}"
    (row,) = remote.get_json(url, tagged)["traces"]
    assert row["trace_id"] == trace_id


PAYLOADS = sorted(path.name for path in DATA.glob("*.binpb"))


def test_a_restored_trace_equals_what_was_archived_span_by_span(retained: Retained) -> None:
    id = experiment(retained.mlflow, "old")
    for name in PAYLOADS:
        retained.send(agent_export(name), id)
    before = {trace_id: retained.stored(trace_id) for trace_id in retained.ids(id)}
    assert len(before) >= len(PAYLOADS)
    retained.run(id)
    assert retained.ids(id) == set()
    restored = 0
    while True:
        answer = retained.restore(experiment_id=id)
        restored += answer["traces"]
        if not answer["left"]:
            break
    retained.service.wait_delivered(60)
    assert restored == len(before)
    for trace_id, trace in before.items():
        again = retained.stored(trace_id)
        assert again is not None and trace is not None
        assert _by_id(again["spans"]) == _by_id(trace["spans"])
    url = retained.service.url
    assert all("archived" not in remote.get_json(url, f"/-/traces/{trace_id}") for trace_id in before)
    # and the rules leave them alone for a while
    assert retained.run(id)["old"]["traces"] == 0
    assert retained.ids(id) == before.keys()


def test_a_restored_trace_has_again_what_was_set_in_mlflow(retained: Retained) -> None:
    id = experiment(retained.mlflow, "all")
    plain, labelled = sorted(retained.send(export(traces=2), id))
    url = retained.mlflow.url
    run = protect(retained.mlflow, id, dict.fromkeys(("assessments", "dataset", "run", "tag"), labelled))
    for key, value in (("team", "a"), ("mlflow.traceName", "renamed"), ("note", 'it\'s "so"')):
        call(url, "PATCH", f"{V3}/traces/tr-{labelled}/tags", {"key": key, "value": value})
    before = {trace_id: _info(retained, trace_id) for trace_id in (plain, labelled)}
    assert len(before[labelled]["assessments"]) == 1
    retained.run(id)
    assert retained.ids(id) == set()
    for trace_id in (plain, labelled):
        retained.restore(trace_id=trace_id)
    until(lambda: retained.state()["archive"]["experiments"][id] == {"returned": 2})
    for trace_id in (plain, labelled):
        assert _info(retained, trace_id) == before[trace_id]
    # MLflow has kept who is linked to it
    linked = retained.linked(run, id)
    assert linked == {labelled}


def test_an_attachment_of_an_archived_trace_is_there_after_its_restore(retained: Retained) -> None:
    id = experiment(retained.mlflow, "old")
    (trace_id,) = retained.send(export(), id)
    attachment = str(uuid.uuid4())
    place = f"/api/2.0/mlflow-artifacts/artifacts/{id}/traces/tr-{trace_id}/artifacts/attachments"
    written = urllib.request.Request(
        f"{retained.mlflow.url}{place}/{attachment}",
        data=b"GIF",
        method="PUT",
        headers={"content-type": "application/octet-stream"},
    )
    urllib.request.urlopen(written, timeout=20).close()
    asked = f"/ajax-api/2.0/mlflow/get-trace-artifact?request_id=tr-{trace_id}&path={attachment}"
    retained.run(id)
    assert retained.ids(id) == set()
    retained.restore(trace_id=trace_id)
    retained.service.wait_delivered(60)
    with urllib.request.urlopen(retained.mlflow.url + asked, timeout=20) as answer:
        assert answer.read() == b"GIF"


def _info(retained: Retained, trace_id: str) -> dict[str, Any]:
    """All that MLflow says of a trace, but whether it is final: what was brought back is."""
    stored = retained.stored(trace_id)
    assert stored is not None
    metadata = dict(stored["trace_info"].get("trace_metadata") or {})
    metadata.pop("mlflow.trace.infoFinalized", None)
    return {**stored["trace_info"], "trace_metadata": metadata}


def test_archived_traces_are_no_difference_to_mlflow(retained: Retained) -> None:
    id = experiment(retained.mlflow, "old")
    retained.send(export(traces=3, spans=2), id)
    url = retained.service.url
    until(lambda: len(remote.get_json(url, f"/-/traces?experiment_id={id}")["traces"]) == 3)
    retained.run(id)
    retained.send(export(spans=4), id)
    until(lambda: len(remote.get_json(url, f"/-/traces?experiment_id={id}")["traces"]) == 4)
    (row,) = remote.get_json(url, f"/-/index/verify?experiment_id={id}")["experiments"]
    assert row["traces"] == {"index": 4, "mlflow": 1, "archived": 3, "difference": 0}
    assert row["spans"] == {"index": 10, "mlflow": 4, "archived": 6, "difference": 0}
    assert row["scores"] == {"index": 0, "mlflow": 0, "archived": 0, "difference": 0}


def _by_id(spans: list[dict[str, Any]]) -> dict[str, Any]:
    """Without the order of attributes, which MLflow sorts as it likes."""
    return {
        span["span_id"]: span
        | {"attributes": sorted(span.get("attributes", []), key=lambda each: str(each["key"]))}
        for span in spans
    }


def protect(mlflow: MlflowServer, experiment_id: str, ids: dict[str, str]) -> str:
    """Each of these traces in another way; the run to which one is linked."""
    url = mlflow.url
    assessment = {
        "assessment_name": "good",
        "source": {"source_type": "HUMAN", "source_id": "ann"},
        "feedback": {"value": True},
        "trace_id": f"tr-{ids['assessments']}",
    }
    call(url, "POST", f"{V3}/traces/tr-{ids['assessments']}/assessments", {"assessment": assessment})
    made = call(url, "POST", f"{V3}/datasets/create", {"name": f"d {uuid.uuid4()}"})
    records = [
        {
            "inputs": {"question": "?"},
            "source": {"source_type": "TRACE", "source_data": {"trace_id": f"tr-{ids['dataset']}"}},
        }
    ]
    dataset = made["dataset"]["dataset_id"]
    call(url, "POST", f"{V3}/datasets/{dataset}/records", {"records": json.dumps(records)})
    run = mlflow.create_run(experiment(mlflow, "elsewhere"))
    linked = {"trace_ids": [f"tr-{ids['run']}"], "run_id": run}
    call(url, "POST", "/api/2.0/mlflow/traces/link-to-run", linked)
    call(url, "PATCH", f"{V3}/traces/tr-{ids['tag']}/tags", {"key": "keep", "value": "yes"})
    return run


@pytest.mark.parametrize("prefix", ["old", "all"])
def test_protected_traces_stay_unless_the_rule_says_so(retained: Retained, prefix: str) -> None:
    id = experiment(retained.mlflow, prefix)
    ids = retained.send(export(traces=5), id)
    protected = dict(zip(("assessments", "dataset", "run", "tag"), ids, strict=False))
    protect(retained.mlflow, id, protected)
    plan, done = retained.plan(id)[prefix], retained.run(id)[prefix]
    stay = set(protected.values()) if prefix == "old" else set()
    assert retained.ids(id) == stay
    for report in (plan, done):
        assert report["traces"] == 5 - len(stay)
        assert report["kept"] == (dict.fromkeys(protected, 1) if stay else {})


def test_a_count_leaves_the_newest_traces(retained: Retained) -> None:
    id = experiment(retained.mlflow, "few")
    sent = [retained.send(export(), id)[0] for _ in range(5)]
    assert retained.plan(id)["few"]["traces"] == 2
    assert retained.run(id)["few"]["traces"] == 2
    assert retained.ids(id) == set(sent[2:])
    assert retained.archive(id) == []


def test_a_rule_takes_only_its_states_and_tags(retained: Retained) -> None:
    id = experiment(retained.mlflow, "failed")
    ok, failed, other = (export() for _ in range(3))
    for request in (failed, other):
        all_spans(request)[0].status.code = 2  # ERROR
    ids = [retained.send(request, id)[0] for request in (ok, failed, other)]
    for trace_id in ids[:2]:
        tag = {"key": "team", "value": "a"}
        call(retained.mlflow.url, "PATCH", f"{V3}/traces/tr-{trace_id}/tags", tag)
    assert retained.plan(id)["failed"]["traces"] == 1
    retained.run(id)
    assert retained.ids(id) == {ids[0], ids[2]}


def late_span_of(request: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """A request with one more span of its first trace."""
    late = ExportTraceServiceRequest()
    late.CopyFrom(request)
    first = all_spans(late)[0]
    first.parent_span_id, first.span_id, first.name = first.span_id, new_span_id(), "late"
    for resource_spans in late.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            del scope_spans.spans[1:]
    return late


def test_late_spans_of_an_archived_trace_are_dead_letters_until_it_is_restored(retained: Retained) -> None:
    id = experiment(retained.mlflow, "old")
    request = export(spans=2)
    (trace_id,) = retained.send(request, id)
    retained.run(id)
    retained.send(late_span_of(request), id)
    (letter,) = until(lambda: retained.letters(trace_id))
    assert (letter["reason"], letter["span_count"]) == ("archived_trace", 1)
    assert retained.ids(id) == set()
    assert retained.restore(trace_id=trace_id)["spans"] == 2
    remote.post_json(retained.service.url, "/-/dead-letters/retry", {"ids": [letter["id"]]})
    until(lambda: len(retained.mlflow.spans(id)) == 3)


@pytest.mark.timeout(240)
def test_by_setting_late_spans_reopen_their_trace_and_rules_run_on_schedule(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    id = experiment(mlflow_server, "reopened")
    rules = f"""
[cleanup]
every_seconds = 1
late_spans = "reopen"

[[retention]]
name = "old"
experiments = ["{id}"]
older_than_seconds = 0
"""
    service = start(tmp_path, mlflow_server, rules)
    retained = Retained(service, mlflow_server)
    try:
        request = export(spans=2)
        retained.export(request, id)
        until(lambda: retained.state()["archive"]["experiments"].get(id) == {"archived": 1})
        retained.export(late_span_of(request), id)
        until(lambda: len(mlflow_server.spans(id)) == 3)
    finally:
        service.kill()


@pytest.mark.timeout(300)
def test_kills_at_any_moment_neither_lose_a_trace_nor_stop_the_rules(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    id = experiment(mlflow_server, "killed")
    rules = RULES.replace("batch_traces = 7", "batch_traces = 2").replace("old-*", "killed-*")
    service = start(tmp_path, mlflow_server, rules)
    retained = Retained(service, mlflow_server)
    try:
        ids = set(retained.send(export(traces=80, spans=2), id))
        for attempt in range(6):
            left = len(retained.ids(id))
            retained.begin()
            until(lambda left=left: len(retained.ids(id)) < left or not retained.state()["run"]["running"])
            time.sleep(0.013 * attempt)  # at another step of a batch each time
            service.kill()
            service.start()
        retained.run(id)
        assert retained.ids(id) == set()
        assert retained.state()["archive"]["experiments"][id] == {"archived": 80}
        while retained.restore(experiment_id=id)["left"]:
            pass
        service.wait_delivered(60)
        assert retained.ids(id) == ids
        assert len(mlflow_server.spans(id)) == 160
    finally:
        service.kill()


def test_the_commands_plan_run_and_restore(retained: Retained) -> None:
    id = experiment(retained.mlflow, "old")
    (trace_id,) = retained.send(export(), id)

    def sidespan(*words: str) -> str:
        done = sidespan_command(*words, "--url", retained.service.url)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert trace_id in sidespan("retention", "plan", "--limit", "5")
    assert f"({id})  archive: 1 traces deleted" in sidespan("retention", "run")
    assert f"experiment {id}: 1 archived" in sidespan("retention", "status")
    assert sidespan("archive", "restore", trace_id) == "1 traces restored\n"


def test_rules_need_the_embedded_journal(tmp_path: Path) -> None:
    settings = tmp_path / "sidespan.toml"
    settings.write_text('[journal]\nurl = "kafka://127.0.0.1:1/x"\n[index]\nenabled = false\n' + RULES)
    done = sidespan_command("serve", "--config", str(settings))
    assert done.returncode == 2
    assert "retention: the rules need the embedded journal" in done.stderr
