"""Every attribute that any convention reads, what a hostile client may put there, and its way to MLflow.

The names come from the code's own tables, so that a new one joins by itself.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.answers.trace_source import _read_payloads
from collector.delivery.mlflow.file_tags import ATTRIBUTES
from collector.delivery.mlflow.forward import forwarder
from collector.harmonise import content, flattened, spans, traces
from collector.index.duckdb import lookups
from collector.index.duckdb.lookups import DuckdbTables
from collector.index.duckdb.store import Store
from collector.index.duckdb.take import Taker
from collector.index.protocol import Lane
from collector.index.queries.stats import ENTITIES
from collector.index.sql import answers
from collector.journal.sqlite.opening import FILE_NAME
from collector.model.batch import Receipt, Route
from collector.model.experiment import ExperimentReference
from collector.otlp.media import Encoding
from collector.processors import slim
from collector.processors.keep import KEPT_ATTRIBUTE
from collector.receivers.decoder.place import placing
from collector.receivers.ingest import Encoded, ingest
from collector.receivers.prepare import Rules
from collector.settings import HarmoniseSettings, ReceiverSettings, RoutingSettings
from collector.settings.processors import ConditionSettings, LimitSettings, SlimSettings, TagSettings
from collector.spans.conventions import ADDED, HTTP_MARKS, REPLACED, RESOURCE_TABLE, TAG_PREFIXES
from collector.spans.keys import KEYS
from collector.spans.summary import summarise
from tests.support.indexed import asked, store_in
from tests.support.otlp import all_spans, export, new_span_id, new_trace_id
from tests.support.spans import any_value
from tests.support.stage import Stage

START = 1_790_000_000_000_000_000
GOOD = "a good neighbour"
FLATTENED = tuple(prefix for prefixes in flattened.PREFIXES.values() for prefix in prefixes)
MEMBERS = ("role", "document.content", "embedding.text", "message.contents.0.message_content.text")
NAMES: Sequence[str] = sorted(
    {
        *KEYS,
        *HTTP_MARKS,
        *(source.key for row in RESOURCE_TABLE.values() for source in row),
        *(f"{prefix}name" for prefix in TAG_PREFIXES),
        *content.INPUTS_READ,
        *content.OUTPUTS_READ,
        *content.INPUTS_UNREAD,
        *content.OUTPUTS_UNREAD,
        *(f"{prefix}{number}.message.content" for prefix in FLATTENED for number in (0, "9" * 5000)),
        *(f"{prefix}0.{member}" for prefix in FLATTENED for member in MEMBERS),
        *(f"{prefix}0" for prefix in (*slim.MESSAGES, *slim.TOOLS)),
        *(name for names in (*slim.MESSAGES.values(), *slim.TOOLS.values()) for name in names),
        *(spans.SPAN_TYPE, spans.USAGE, spans.COST, spans.MODEL, spans.PROVIDER, spans.REASONING),
        *(traces.TRACE_NAME, traces.SESSION, traces.CONVERSATION, traces.USER),
        *(ADDED, REPLACED, KEPT_ATTRIBUTE),
        *ATTRIBUTES,
    }
)
HALF = "\\ud83d"
DEEP = 5000
VALUES: dict[str, Any] = {
    "half_a_pair_in_an_object": f'{{"a": "{HALF}", "{HALF}": "b"}}',
    "half_a_pair_in_a_message": f'[{{"role": "user", "parts": [{{"content": "cut {HALF}"}}]}}]',
    "half_a_pair_in_an_answer": '[{"role": "assistant", "content": "\\udc00"}]',
    "half_a_pair_alone": f'"{HALF}"',
    "nul": "a\0b",
    "nul_in_json": '{"a\\u0000": "b\\u0000", "input_tokens": "\\u0000"}',
    "deep_list": "[" * DEEP + "]" * DEEP,
    "deep_object": '{"a":' * DEEP + "1" + "}" * DEEP,
    "list_of_90_levels": "[" * 90 + "]" * 90,
    "torn_json": '{"a": [1, 2',
    "digits": "9" * DEEP,
    "digits_in_json": f'{{"input_tokens": {"9" * DEEP}, "total": {"9" * DEEP}}}',
    "large_numbers_in_json": json.dumps(
        {"total_cost": 1e308, "total": 2**70, "input_tokens": 2**53 + 1, "input": 2**63, "output": 1e300}
    ),
    "no_numbers_in_json": '{"total_cost": NaN, "input_tokens": Infinity, "total": -Infinity, "input": 1e999}',
    "nan_text": "NaN",
    "cost_text": "1e308",
    "nan": float("nan"),
    "infinity": float("inf"),
    "minus_infinity": float("-inf"),
    "1e308": 1e308,
    "smallest": 5e-324,
    "minus_zero": -0.0,
    "2^53": 2**53,
    "2^53_double": 2.0**53,
    "2^63-1": 2**63 - 1,
    "-2^63": -(2**63),
    "true": True,
    "nothing": None,
    "bytes": b"\xff\x00\xfe",
    "empty": "",
    "blank": " \t\r\n ",
    "quotes": 'a"b,\r\n\x1f\x1e\u2028',
    "empty_list": [],
    "empty_map": {},
    "list_of_everything": [None, 1e308, float("nan"), b"\xff", "\0", ["x", {"y": [1]}], True],
    "long_list": ["word"] * 2000,
    "map": {"": "", "\0": "\0", "k" * 5000: "v", "input_tokens": 1e308, "total_cost": 1e308},
    "long_text": "t" * 70_000,
    "names": ["gen_ai.usage.input_tokens", "mlflow.spanType", 5],
    "words": "no json",
    "list_of_names": '["session.id"]',
    "object_of_names": '{"session.id": 5, "mlflow.spanType": {"a": null}}',
}
KINDS = ("LLM", "AGENT")
PROCESSORS = (
    LimitSettings(type="limit", attributes=100, value_characters=60_000),
    SlimSettings(type="slim"),
    TagSettings(type="tag", when=ConditionSettings(name="*"), set={"team": "search"}),
)


def hostile_span(
    attributes: dict[str, Any], *, kind: str = "LLM", trace_id: bytes | None = None, **fields: Any
) -> Span:
    """A failed span with these attributes, in a trace of its own."""
    told: dict[str, Any] = {
        "trace_id": trace_id or new_trace_id(),
        "span_id": new_span_id(),
        "name": "hostile",
        "start_time_unix_nano": START,
        "end_time_unix_nano": START + 10**9,
        "status": Status(code=Status.STATUS_CODE_ERROR, message="it failed"),
    }
    span = Span(**(told | fields))
    usual = {"openinference.span.kind": kind, "gen_ai.request.model": "gpt-4o", "session.id": "s"}
    for key, value in {**usual, **attributes}.items():
        span.attributes.add(key=key, value=any_value(value))
    return span


def request_with(*hostile: Span) -> ExportTraceServiceRequest:
    """The spans, between two good ones of another trace."""
    request = export(spans=2)
    first, last = all_spans(request)
    for span in (first, last):
        span.name = GOOD
        span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
    between = request.resource_spans[0].scope_spans[0].spans
    del between[1:]
    between.extend([*hostile, last])
    return request


@dataclass
class Outcome:
    """What became of the spans of some requests on their whole way."""

    accepted: int
    rejected: int
    delivered: int
    dead: int
    pending: int
    failed: float
    good_in_mlflow: list[Span]
    indexed_good: int
    indexed: int
    index_failed: int
    unreadable: int
    summaries: list[dict[str, Any]]


async def _there(_: Route) -> bool:
    return True


async def way_of(directory: Path, requests: Sequence[ExportTraceServiceRequest]) -> Outcome:
    """Receive, index, forward, deliver, and ask every question afterwards."""
    stage = Stage(directory / "journal", forward=forwarder(HarmoniseSettings(), PROCESSORS))
    await stage.open()
    try:
        receipts = [await _take(stage, request) for request in requests]
        with store_in(directory / "index") as store:
            taken, indexed, good = _index(store, directory / "journal" / FILE_NAME)
            summaries = _ask(store, requests)
        await stage.start()
        await stage.drained()
        letters = await stage.letters()
        return Outcome(
            accepted=sum(receipt.accepted_spans for receipt in receipts),
            rejected=sum(len(receipt.rejections) for receipt in receipts),
            delivered=int(stage.counted("sidespan_spans_delivered_total")),
            dead=sum(letter.span_count for letter in letters if letter.reason),
            pending=await stage.pending(),
            failed=sum(
                stage.counted("sidespan_processor_spans_total", processor=name, outcome="failed")
                for name in ("harmonise", "forward", "limit", "slim", "tag")
            ),
            good_in_mlflow=[s for _, sent, _ in stage.mlflow.requests for s in sent if s.name == GOOD],
            indexed=indexed,
            indexed_good=good,
            index_failed=taken[0],
            unreadable=taken[1],
            summaries=summaries,
        )
    finally:
        await stage.close()


async def _take(stage: Stage, request: ExportTraceServiceRequest) -> Receipt:
    return await ingest(
        Encoded(
            chunks=[request.SerializeToString()],
            encoding=Encoding.PROTOBUF,
            headers={"x-mlflow-experiment-id": "1"},
        ),
        prepare=placing(Rules(limits=ReceiverSettings(), routing=RoutingSettings())),
        reserve=lambda _: None,
        exists=_there,
        append=stage.journal.log.append,
    )


def _index(store: Store, journal: Path) -> tuple[tuple[int, int], int, int]:
    taker = Taker(store, journal, processes=1, preview_characters=200)
    failed = unreadable = 0
    while True:
        taken = taker.take([Lane(lane=Route(experiment_id="1").lane, experiment=ExperimentReference(id="1"))])
        failed, unreadable = failed + taken.failed, unreadable + taken.unreadable
        if not taken.more:
            break
    taker.close()
    good = store.db.execute("SELECT count(*) FROM spans WHERE name = ? AND kind = 'LLM'", [GOOD]).fetchone()
    return (failed, unreadable), store.counts()[1], good[0] if good else 0


def _ask(store: Store, requests: Sequence[ExportTraceServiceRequest]) -> list[dict[str, Any]]:
    """Each question, and the summary of each trace from the index and from the journal: finite JSON."""
    db, folder = store.reader(), store.path.parent
    metrics = list(ENTITIES["traces"].metrics)
    found: list[Any] = [
        answers.traces(DuckdbTables(db), asked(limit=1000), folder),
        answers.errors(DuckdbTables(db), asked(), folder),
        answers.sessions(DuckdbTables(db), asked(), folder),
        answers.stats(DuckdbTables(db), asked(metric=metrics, bucket="auto")),
        answers.stats(DuckdbTables(db), asked(of="models", by="model", metric=["cost_usd", "input_tokens"])),
        answers.overview(DuckdbTables(db), asked()),
        answers.facets(DuckdbTables(db), asked()),
    ]
    summaries = []
    count = sum(len(all_spans(request)) for request in requests)
    for request in requests:
        payload = request.SerializeToString()
        for number, trace_id in enumerate({span.trace_id for span in all_spans(request)}):
            # the index is asked for some of many: each takes milliseconds
            asks = number % (1 + count // 100) == 0
            stored = lookups.find_trace(db, trace_id.hex(), None) if asks else None
            both = (stored.spans if stored else [], _read_payloads([payload], trace_id))
            summaries += [summarise(listed, trace_id=trace_id.hex()).to_json() for listed in both]
    json.dumps([found, summaries], allow_nan=False).encode()
    return summaries
