"""Where a body is read, and that what is read is the same everywhere."""

import asyncio
import gzip
import json
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.model.batch import Draft, Route, Signal, signal_of
from collector.model.errors import Reason, Rejected, Unavailable
from collector.otlp.media import Encoding
from collector.processors.redact import redactor
from collector.receivers.decoder.client import Decoder, open_decoder
from collector.receivers.decoder.place import MIDDLE_BYTES, placing
from collector.receivers.ingest import Encoded, Sender
from collector.receivers.opening import prepare_of
from collector.receivers.prepare import SMALL_BYTES, Prepared, Rules
from collector.settings import ReceiverSettings, RoutingSettings, Settings
from tests.support import hostile_bodies as hostile
from tests.support.hostile_bodies import MIB
from tests.support.logs import logs, record
from tests.support.otlp import all_spans, export

REDACT = {"processors": [{"type": "redact", "presets": ["email"]}]}


def settings_of(**given: Any) -> Settings:
    return Settings.model_validate(given)


def encoded(
    body: bytes, encoding: Encoding = Encoding.PROTOBUF, coding: str | None = None, **headers: str
) -> Encoded:
    pieces = [body[at : at + 60_000] for at in range(0, len(body), 60_000)]
    return Encoded(
        chunks=pieces,
        encoding=encoding,
        content_encoding=coding,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        sender=Sender(name="anna"),
    )


def no_reserve(size_bytes: int) -> None:
    pass


@pytest.fixture
async def decoder() -> AsyncIterator[Decoder]:
    async with open_decoder(settings_of()) as opened:
        yield opened


def two_experiments() -> ExportTraceServiceRequest:
    request = export(spans=2, resource={"mlflow.experiment.id": "1"})
    request.MergeFrom(export(spans=3, resource={"mlflow.experiment.name": "zwei"}))
    return request


def some_refused() -> ExportTraceServiceRequest:
    request = export(spans=4)
    all_spans(request)[1].trace_id = b"short"
    all_spans(request)[2].span_id = b""
    return request


def with_a_secret() -> ExportTraceServiceRequest:
    request = export()
    all_spans(request)[0].attributes.add(key="who").value.string_value = "ann@example.com"
    return request


def as_json(request: ExportTraceServiceRequest) -> bytes:
    document = json_format.MessageToDict(request)
    for resource_spans in document["resourceSpans"]:
        for span in resource_spans["scopeSpans"][0]["spans"]:
            span["traceId"], span["spanId"] = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
            span.pop("parentSpanId", None)
    return json.dumps(document).encode()


ALIKE: dict[str, tuple[Encoded, dict[str, Any]]] = {
    "plain": (encoded(export(spans=3).SerializeToString()), {}),
    "empty": (encoded(b""), {}),
    "routed_by_header": (encoded(export().SerializeToString(), x_mlflow_experiment_name="b%C3%A4r"), {}),
    "two_experiments": (encoded(two_experiments().SerializeToString()), {}),
    "some_refused": (encoded(some_refused().SerializeToString()), {}),
    "redacted": (encoded(with_a_secret().SerializeToString()), REDACT),
    "gzip": (encoded(gzip.compress(two_experiments().SerializeToString()), coding="gzip"), {}),
    "json": (encoded(as_json(export(spans=2)), Encoding.JSON), {}),
}


@pytest.mark.parametrize(("request_", "given"), ALIKE.values(), ids=ALIKE)
async def test_it_is_read_alike_on_the_loop_and_in_the_process(
    request_: Encoded, given: dict[str, Any]
) -> None:
    settings = settings_of(**given)
    async with open_decoder(settings) as decoder:
        elsewhere = await decoder.prepare(request_, no_reserve)
        here = await prepare_of(settings, decoder)(request_, no_reserve)
    assert [_plain(route, draft) for route, draft in elsewhere.drafts] == [
        _plain(route, draft) for route, draft in here.drafts
    ]
    assert elsewhere.rejections == here.rejections


def _plain(route: Route, draft: Draft) -> tuple[Any, ...]:
    return route, bytes(draft.payload), draft.span_count, draft.trace_ids, draft.client, draft.lane


def mostly_text(size: int) -> bytes:
    request = export()
    all_spans(request)[0].attributes.add(key="text").value.string_value = "Some text. " * (size // 11)
    return request.SerializeToString()


HERE, ELSEWHERE = [], ["elsewhere"]
PLACES: dict[str, tuple[Callable[[], Encoded], list[str]]] = {
    "small_protobuf": (lambda: encoded(mostly_text(1000)), HERE),
    "small_and_dense": (lambda: encoded(hostile.empty_attributes(30_000)), HERE),
    "text_in_protobuf": (lambda: encoded(mostly_text(MIDDLE_BYTES - 1000)), HERE),
    "dense": (lambda: encoded(hostile.empty_attributes(60_000)), ELSEWHERE),
    "many_that_are_refused": (lambda: encoded(hostile.empty_spans(20_000)), ELSEWHERE),
    "malformed_and_not_small": (lambda: encoded(mostly_text(SMALL_BYTES)[:-1]), ELSEWHERE),
    "large": (lambda: encoded(mostly_text(MIDDLE_BYTES)), ELSEWHERE),
    "json": (lambda: encoded(hostile.json_text(100_000), Encoding.JSON), HERE),
    "large_json": (lambda: encoded(hostile.json_text(300_000), Encoding.JSON), ELSEWHERE),
    "gzip": (lambda: encoded(gzip.compress(mostly_text(SMALL_BYTES // 2)), coding="gzip"), HERE),
    "gzip_of_middle_size": (lambda: encoded(gzip.compress(mostly_text(MIB)), coding="gzip"), HERE),
    "small_gzip_of_much": (lambda: encoded(hostile.smallest(bytes(5 * MIB)), coding="gzip"), ELSEWHERE),
}


@pytest.mark.parametrize(("make", "expected"), PLACES.values(), ids=PLACES)
async def test_what_is_large_once_inflated_is_read_elsewhere(
    make: Callable[[], Encoded], expected: list[str]
) -> None:
    asked: list[str] = []

    async def elsewhere(request: Encoded, reserve: Callable[[int], None]) -> Prepared:
        asked.append("elsewhere")
        return Prepared(drafts=[], rejections=[])

    await placing(Rules(limits=ReceiverSettings(), routing=RoutingSettings()), elsewhere)(make(), no_reserve)
    assert asked == expected


async def test_redaction_of_much_text_is_done_elsewhere() -> None:
    asked: list[str] = []

    async def elsewhere(request: Encoded, reserve: Callable[[int], None]) -> Prepared:
        asked.append("elsewhere")
        return Prepared(drafts=[], rejections=[])

    redact = redactor(settings_of(**REDACT).processors, pytest.fail)
    prepare = placing(Rules(limits=ReceiverSettings(), routing=RoutingSettings(), redact=redact), elsewhere)
    await prepare(encoded(mostly_text(100_000)), no_reserve)
    assert asked == []
    await prepare(encoded(mostly_text(300_000)), no_reserve)
    assert asked == ["elsewhere"]


async def test_what_comes_back_inflated_is_reserved(decoder: Decoder) -> None:
    reserved: list[int] = []
    body = mostly_text(3 * MIB)
    await decoder.prepare(encoded(body), reserved.append)
    assert reserved == []  # it was when it came in
    await decoder.prepare(encoded(gzip.compress(body), coding="gzip"), reserved.append)
    assert reserved == [len(body)]


async def test_an_export_that_takes_too_much_memory_is_refused_and_the_next_is_read() -> None:
    receiver = {"max_body_bytes": 20 * MIB, "decoder_memory_bytes": 64 * MIB}
    async with open_decoder(settings_of(receiver=receiver)) as decoder:
        with pytest.raises(Rejected, match="bytes of memory; send smaller batches") as caught:
            await decoder.prepare(encoded(hostile.empty_attributes(2_900_000)), no_reserve)
        assert caught.value.reason is Reason.TOO_LARGE
        assert (await decoder.prepare(encoded(mostly_text(MIB)), no_reserve)).drafts


DEATHS = {
    "out_of_time": (signal.SIGXCPU, Rejected, Reason.TOO_LARGE),
    "killed": (signal.SIGKILL, Unavailable, Reason.DECODER_FAILED),
    "crashed": (signal.SIGSEGV, Unavailable, Reason.DECODER_FAILED),
}


@pytest.mark.parametrize(("number", "error", "reason"), DEATHS.values(), ids=DEATHS)
async def test_the_death_of_the_process_costs_one_export_at_the_most(
    decoder: Decoder, number: int, error: type[Exception], reason: Reason
) -> None:
    request = encoded(mostly_text(3 * MIB))
    await decoder.prepare(request, no_reserve)
    process = decoder.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    waiting = [asyncio.create_task(decoder.prepare(request, no_reserve)) for _ in range(3)]
    await asyncio.sleep(0.2)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    first, *others = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(first, error)
    assert getattr(first, "reason", None) is reason
    assert all(isinstance(other, Prepared) for other in others)


async def test_a_process_that_left_between_two_exports_is_started_again(decoder: Decoder) -> None:
    request = encoded(mostly_text(3 * MIB))
    await decoder.prepare(request, no_reserve)
    process = decoder.process
    assert process is not None
    process.kill()
    process.wait()
    assert (await decoder.prepare(request, no_reserve)).drafts


async def test_signals_for_the_whole_group_don_t_end_it(decoder: Decoder) -> None:
    request = encoded(mostly_text(3 * MIB))
    await decoder.prepare(request, no_reserve)
    process = decoder.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    await decoder.prepare(request, no_reserve)
    assert decoder.process is process


async def test_there_is_no_process_until_it_is_needed(decoder: Decoder) -> None:
    assert decoder.process is None


async def test_log_records_are_read_in_the_process_as_on_the_event_loop(decoder: Decoder) -> None:
    request = logs(record("fine", body="ann@example.com"), record("broken", trace_id=b"short"))
    here = prepare_of(settings_of(**REDACT), decoder)
    async with open_decoder(settings_of(**REDACT)) as elsewhere:
        given = encoded(request.SerializeToString())._replace(signal=Signal.LOGS)
        found = [await here(given, no_reserve), await elsewhere.prepare(given, no_reserve)]
    drafts = [[(to, bytes(draft.payload), draft.lane) for to, draft in each.drafts] for each in found]
    assert drafts[0] == drafts[1]
    assert signal_of(drafts[0][0][2]) is Signal.LOGS
    assert b"ann@" not in drafts[0][0][1]
    assert [[r.reason for r in each.rejections] for each in found] == [[Reason.INVALID_TRACE_ID]] * 2
