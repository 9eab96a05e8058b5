"""Another backend beside MLflow: what it gets, what its answers mean, what its absence costs the others."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from collector.delivery.otlp import selection
from collector.delivery.worker import Clock
from collector.model.batch import Route
from collector.processors.keep import KeepReason, SamplingDecision, note_of
from tests.support.backend_stage import TEE, BackendStage
from tests.support.certificates import certificates_in
from tests.support.fake_backend import backend_at, partial_logs, partial_traces, refusal
from tests.support.logs import record
from tests.support.otlp import all_spans, export, new_trace_id
from tests.support.stage import ONE, TWO, named, until


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[BackendStage]:
    stage = BackendStage(tmp_path)
    await stage.open()
    yield stage
    await stage.close()


def counted(stage: BackendStage, metric: str = "forwarded", **labels: str) -> float:
    return stage.counted(f"sidespan_{metric}_total", target="tee", **labels)


async def test_it_gets_what_the_client_sent_byte_for_byte_and_mlflow_its_own_copy(
    stage: BackendStage,
) -> None:
    await stage.start_backend()
    request = named("a", spans=3)
    payload = request.SerializeToString() + bytes([0xFA, 0x3F, 0x01, 0x78])  # and a field of tomorrow
    await stage.append(type(request).FromString(payload))
    await until(stage.has_it_all)
    assert stage.backend.bodies == [("/v1/traces", payload)]
    assert counted(stage, outcome="delivered") == 3


async def test_it_gets_log_records_too_those_that_mlflow_has_no_place_for(stage: BackendStage) -> None:
    await stage.start()
    await stage.start_logs()
    await stage.start_backend()
    await stage.append_logs(record("app.started"), record("app.stopped"))
    await until(stage.has_it_all)
    await until(stage.logs_are_done)
    assert stage.backend.taken == ["app.started", "app.stopped"]
    assert [path for path, _ in stage.backend.bodies] == ["/v1/logs"]


async def test_its_absence_costs_mlflow_nothing_and_mlflows_costs_it_nothing(stage: BackendStage) -> None:
    await stage.start()
    await stage.start_backend(is_there=False)
    await stage.append(named("first"))
    await stage.drained()
    assert stage.mlflow.names == {"first-0"}
    assert "can't be reached" in str(stage.tee_worker.trouble)
    await stage.mlflow_goes()
    await stage.backend_comes()
    await stage.append(named("second"))
    await until(stage.has_it_all)
    assert stage.backend.taken == ["first-0", "second-0"]
    await stage.mlflow_comes()
    await stage.drained()
    assert len(stage.mlflow.requests) == 2, "MLflow gets nothing twice because of another's retries"


async def test_an_hour_without_it_loses_nothing_and_asks_it_seldom(stage: BackendStage) -> None:
    """Simulated: the clock that the worker is given goes on by a minute for each request that arrives."""
    passed = [0.0]
    base = Clock()
    clock = Clock(monotonic=lambda: base.monotonic() + passed[0], unix=lambda: base.unix() + passed[0])
    await stage.start()
    worker = await stage.start_backend(clock=clock, backoff_initial_seconds=0.5, backoff_max_seconds=30)
    stage.backend.fault = lambda names: refusal(503)
    for minute in range(60):
        asked = stage.backend.asked
        passed[0] += 60
        await stage.append(named(f"minute {minute}"))
        await until(lambda asked=asked: _is(stage.backend.asked > asked))  # type: ignore[misc]
        assert stage.backend.asked - asked <= 2
    await stage.drained()
    assert len(stage.mlflow.stored) == 60
    assert worker.trouble is not None
    stage.backend.fault = None
    passed[0] += 60
    await stage.append(named("back"))
    await until(stage.has_it_all)
    assert stage.backend.taken == [*(f"minute {minute}-0" for minute in range(60)), "back-0"]
    await stage.drained()
    assert len(stage.mlflow.stored) == 61
    await until(lambda: _is(worker.trouble is None))


async def _is(value: bool) -> bool:
    return value


@pytest.mark.parametrize("status", [429, 502, 503, 504, 401, 403, 404, 405, 408, 302, 500])
async def test_what_says_nothing_of_the_data_is_waited_for(stage: BackendStage, status: int) -> None:
    stage.backend.fault = lambda names: refusal(status, Location="/login")
    await stage.start_backend()
    await stage.append(named("a"))
    await until(lambda: _is(stage.tee_worker.trouble is not None))
    assert not await stage.has_it_all()
    stage.backend.fault = None
    await until(stage.has_it_all)
    assert (stage.backend.taken, await stage.tee_letters()) == (["a-0"], [])


async def test_it_is_asked_again_when_it_wishes(stage: BackendStage) -> None:
    at: list[float] = []

    def busy(names: list[str]) -> web.Response | None:
        at.append(asyncio.get_running_loop().time())
        return refusal(429, **{"Retry-After": "1"}) if len(at) == 1 else None

    stage.backend.fault = busy
    await stage.start_backend()
    await stage.append(named("a"))
    await until(stage.has_it_all)
    assert at[1] - at[0] >= 0.95


@pytest.mark.parametrize(
    ("status", "reason"), [(400, "refused"), (413, "too_large"), (422, "refused"), (500, "poison")]
)
async def test_a_span_that_it_refuses_costs_itself_only(
    stage: BackendStage, status: int, reason: str
) -> None:
    stage.backend.fault = lambda names: refusal(status, "a bad name") if "bad-0" in names else None
    for name in ("a", "bad", "b", "c"):
        await stage.append(named(name))
    await stage.start_backend()
    await until(stage.has_it_all)
    assert sorted(stage.backend.taken) == ["a-0", "b-0", "c-0"]
    (letter,) = await stage.tee_letters()
    assert (letter.reason, letter.span_count) == (reason, 1)
    assert "tee answered" in letter.message and "a bad name" in letter.message
    assert counted(stage, "forward_dead_lettered", reason=reason) == 1


async def test_a_log_record_that_it_refuses_costs_itself_only(stage: BackendStage) -> None:
    stage.backend.fault = lambda names: refusal(400) if "bad" in names else None
    await stage.append_logs(*[record(name) for name in ("a", "b", "bad", "c")])
    await stage.start_backend()
    await until(stage.has_it_all)
    assert sorted(stage.backend.taken) == ["a", "b", "c"]
    assert [letter.span_count for letter in await stage.tee_letters()] == [1]


async def test_what_no_part_of_a_request_would_change_is_refused_as_a_whole(stage: BackendStage) -> None:
    stage.backend.fault = lambda names: refusal(415)
    await stage.append(named("a", spans=50))
    await stage.start_backend()
    await until(stage.has_it_all)
    assert [letter.span_count for letter in await stage.tee_letters()] == [50]
    assert stage.backend.asked == 1


@pytest.mark.parametrize("signal", ["traces", "logs"])
async def test_what_a_success_rejects_is_counted_told_and_not_sent_again(
    stage: BackendStage, signal: str, caplog: pytest.LogCaptureFixture
) -> None:
    partial = partial_traces if signal == "traces" else partial_logs
    stage.backend.fault = lambda names: partial(2, "too old")
    with caplog.at_level(logging.WARNING):
        if signal == "traces":
            await stage.append(named("a", spans=5))
        else:
            await stage.append_logs(*[record(f"{n}") for n in range(5)])
        await stage.start_backend()
        await until(stage.has_it_all)
        await until(lambda: _is(counted(stage, outcome="rejected") == 2))
    assert counted(stage, outcome="delivered") == 3
    assert stage.backend.asked == 1
    assert await stage.tee_letters() == []
    assert any("too old" in str(vars(each).get("why")) for each in caplog.records)


@pytest.mark.parametrize(
    "unreadable",
    [
        pytest.param({"body": b"{}", "headers": {"Content-Encoding": "gzip"}}, id="not_what_it_says_it_is"),
        pytest.param({"body": b'{"partialSuccess": {"rejectedSpans": 1e999}}'}, id="absurd"),
    ],
)
async def test_a_success_counts_though_the_rest_of_the_answer_cant_be_read(
    stage: BackendStage, unreadable: dict[str, Any]
) -> None:
    stage.backend.fault = lambda names: web.Response(content_type="application/json", **unreadable)
    await stage.append(named("taken"))
    await stage.start_backend()
    await until(stage.has_it_all)
    assert stage.backend.taken == ["taken-0"]


async def test_what_it_has_taken_is_not_sent_again_because_something_else_waits(stage: BackendStage) -> None:
    stage.backend.fault = lambda names: refusal(503) if "waits-0" in names else None
    await stage.append(named("first"))
    await stage.append(named("waits"))
    await stage.start_backend(request_bytes=100)
    await until(lambda: _is(stage.tee_worker.trouble is not None))
    stage.backend.fault = None
    await until(stage.has_it_all)
    assert stage.backend.taken == ["first-0", "waits-0"]


async def test_a_dead_letter_goes_back_to_this_target_alone(stage: BackendStage) -> None:
    stage.backend.fault = lambda names: refusal(400)
    await stage.start()
    await stage.start_backend()
    await stage.append(named("a"))
    await until(stage.has_it_all)
    await stage.drained()
    assert await stage.letters() == []
    stage.backend.fault = None
    assert await stage.journal.dead_letters(TEE).retry(None) == 1
    await until(stage.has_it_all)
    assert stage.backend.taken == ["a-0"]
    assert len(stage.mlflow.requests) == 1


FILTERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "experiment": ({"experiments": ["1"]}, ["a-0", "b-0"]),
    "experiment_by_pattern": ({"experiments": ["check*"]}, ["named-0"]),
    "service": ({"services": ["web-*"]}, ["a-0", "other-0"]),
    "attribute_of_the_resource": ({"attributes": {"env": "prod"}}, ["b-0"]),
    "attribute_of_the_span": ({"attributes": {"level": "[1-3]"}}, ["a-0"]),
    "all_must_hold": ({"services": ["web-*"], "experiments": ["2"]}, ["other-0"]),
}


@pytest.mark.parametrize(("filter", "expected"), FILTERS.values(), ids=FILTERS)
async def test_it_gets_what_its_filter_lets_through(
    stage: BackendStage, filter: dict[str, Any], expected: list[str]
) -> None:
    rows: list[tuple[str, Route, dict[str, str]]] = [
        ("a", ONE, {"service": "web-eu"}),
        ("b", ONE, {"service": "batch", "env": "prod"}),
        ("other", TWO, {"service": "web-us"}),
        ("named", Route(experiment_name="checkout"), {"service": "batch"}),
    ]
    for name, route, resource in rows:
        request = export(service=resource.pop("service"), resource=resource)
        (span,) = all_spans(request)
        span.name = f"{name}-0"
        if name == "a":
            span.attributes.add(key="level").value.int_value = 2
        await stage.append(request, route)
    await stage.start_backend(**filter)
    await until(stage.has_it_all)
    assert sorted(stage.backend.taken) == sorted(expected)
    await until(lambda: _is(counted(stage, outcome="withheld") == len(rows) - len(expected)))


async def test_a_filter_works_on_log_records_too(stage: BackendStage) -> None:
    await stage.append_logs(record("wanted", level=1), record("other"))
    await stage.start_backend(attributes={"level": "*"})
    await until(stage.has_it_all)
    assert stage.backend.taken == ["wanted"]


async def test_its_processors_work_on_its_copy_alone(stage: BackendStage) -> None:
    await stage.start()
    await stage.start_backend(
        processors=[
            {"type": "tag", "when": {"name": "a-*"}, "set": {"team": "x"}},
            {"type": "drop", "when": {"name": "b-*"}},
            {"type": "redact", "presets": ["email"]},
        ]
    )
    request = named("a")
    all_spans(request)[0].attributes.add(key="who").value.string_value = "me@example.com"
    await stage.append(request)
    await stage.append(named("b"))
    await until(stage.has_it_all)
    (span,) = all_spans(stage.backend.spans)
    found = {pair.key: pair.value.string_value for pair in span.attributes}
    assert found == {"who": "[redacted:email]", "team": "x"}
    await stage.drained()
    assert stage.mlflow.names == {"a-0", "b-0"}
    sent = [span for _, spans, _ in stage.mlflow.requests for span in spans if span.name == "a-0"]
    assert {pair.key: pair.value.string_value for pair in sent[0].attributes} == {"who": "me@example.com"}


async def test_redaction_works_on_log_records_too(stage: BackendStage) -> None:
    await stage.append_logs(record("a", body="me@example.com"))
    await stage.start_backend(processors=[{"type": "redact", "presets": ["email"]}])
    await until(stage.has_it_all)
    assert b"me@example.com" not in stage.backend.bodies[0][1]
    assert b"[redacted:email]" in stage.backend.bodies[0][1]


async def test_harmonised_by_choice(stage: BackendStage) -> None:
    request = named("chat")
    all_spans(request)[0].attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
    await stage.append(request)
    await stage.start_backend(harmonise=True)
    await until(stage.has_it_all)
    keys = {pair.key for pair in all_spans(stage.backend.spans)[0].attributes}
    assert "mlflow.spanType" in keys


async def test_it_follows_sampling_by_choice(tmp_path: Path) -> None:
    stage = BackendStage(tmp_path, behind="sampling")
    await stage.open()
    try:
        await stage.start_backend(sampled=True)
        kept, dropped = new_trace_id(), new_trace_id()
        await stage.append(export(trace_ids=[kept, dropped]))
        await stage.append_logs(record("log"))
        await until(lambda: _is(stage.backend.taken == ["log"]))
        decisions = {
            kept: note_of(SamplingDecision(reason=KeepReason.ERROR)),
            dropped: note_of(SamplingDecision(reason=KeepReason.NOT_SAMPLED)),
        }
        sampling = stage.journal.consumer("sampling")
        (entry,) = await sampling.read(ONE.lane, limit_bytes=2**20)
        await sampling.commit(ONE.lane, through=entry.position, remember=decisions)
        await until(stage.has_it_all)
        (span,) = all_spans(stage.backend.spans)
        assert (span.trace_id, list(span.attributes)) == (kept, [])
    finally:
        await stage.close()


async def test_without_that_choice_it_gets_every_trace_at_once(tmp_path: Path) -> None:
    stage = BackendStage(tmp_path, behind="sampling")
    await stage.open()
    try:
        await stage.start_backend()
        await stage.append(named("undecided"))
        await until(stage.has_it_all)
        assert stage.backend.taken == ["undecided-0"]
    finally:
        await stage.close()


async def test_headers_and_compression(stage: BackendStage, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("# secrets\nAuthorization: Bearer s3cret\nx-scope: from file\n")
    await stage.append(named("a"))
    await stage.start_backend(headers={"X-Scope": "tenant"}, headers_file=file, compression="gzip")
    await until(stage.has_it_all)
    (headers,) = stage.backend.headers
    assert (headers["authorization"], headers["x-scope"]) == ("Bearer s3cret", "tenant")
    assert (headers["content-encoding"], headers["content-type"]) == ("gzip", "application/x-protobuf")


async def test_it_is_trusted_and_shown_who_sends_by_certificates(stage: BackendStage, tmp_path: Path) -> None:
    folder = certificates_in(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.pem"))
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    server.verify_mode = ssl.CERT_REQUIRED
    url = f"https://localhost:{stage.backend_port}"
    async with backend_at(stage.backend, stage.backend_port, server):
        await stage.append(named("a"))
        trusting = {"url": url, "ca_file": folder / "ca.pem"}
        await stage.start_backend(is_there=False, **trusting)
        await until(lambda: _is(stage.tee_worker.trouble is not None))
        await stage.stop_backend()
        assert stage.backend.taken == []
        shown = {"client_certificate_file": folder / "client.pem", "client_key_file": folder / "client.key"}
        await stage.start_backend(is_there=False, **trusting, **shown)
        await until(stage.has_it_all)
        assert stage.backend.taken == ["a-0"]
        await stage.stack.aclose()


async def test_paths_of_its_own(stage: BackendStage) -> None:
    await stage.append(named("a"))
    await stage.start_backend(traces_path="/api/v0.2/traces")
    await until(stage.has_it_all)
    assert [path for path, _ in stage.backend.bodies] == ["/api/v0.2/traces"]


async def test_an_entry_that_kills_the_service_again_and_again_is_quarantined_for_it_alone(
    stage: BackendStage,
) -> None:
    await stage.append(named("a"))
    for _ in range(3):
        tee = stage.journal.consumer(TEE)
        (entry,) = await tee.read(ONE.lane, limit_bytes=2**20)
        await tee.mark(entry.lane, through=entry.position)
        await stage.stack.aclose()
        await stage.server.aclose()
        await stage.open()
    await stage.start()
    await stage.start_backend()
    await until(stage.has_it_all)
    assert [letter.reason for letter in await stage.tee_letters()] == ["quarantined"]
    await stage.drained()
    assert (stage.mlflow.names, await stage.letters()) == ({"a-0"}, [])


async def test_a_bug_in_its_filter_sends_nothing_loses_nothing_and_is_told(
    stage: BackendStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(selection, "only", fail)
    await stage.append(named("a"))
    worker = await stage.start_backend(attributes={"level": "1"})
    await until(lambda: _is(bool(worker.stuck())))
    assert "RuntimeError" in worker.stuck()[0].reason
    assert (stage.backend.asked, await stage.has_it_all()) == (0, False)
