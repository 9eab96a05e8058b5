"""Spans through harmonising, whole and in parts."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.harmonise.apply import harmonise
from collector.harmonise.parts import Part
from collector.spans.facts import decode_attributes
from tests.support.otlp import all_spans
from tests.support.spans import START, TRACE_ID, otlp_span

REMOTE_KNOWN, REMOTE = 0x100, 0x300
MESSAGES = '[{"role": "user", "parts": [{"type": "text", "content": "Hello?"}]}]'
ALL = frozenset(Part)
TRACE = bytes.fromhex(TRACE_ID)
NAME = "mlflow.traceTag.mlflow.traceName"
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
USED = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=40),
    st.binary(max_size=8),
    st.lists(st.text(max_size=5), max_size=3),
    st.sampled_from(["{}", "[]", "null", '{"input_tokens": 3}', MESSAGES, "[[[[", "s" * 300]),
)


def span(number: int, parent: int | None, attributes: dict[str, Any], **fields: Any) -> Span:
    """Span `number` of the trace; it starts `number` ms after it."""
    return otlp_span(
        attributes,
        **{
            "span_id": bytes([number] * 8),
            "parent_span_id": b"" if parent is None else bytes([parent] * 8),
            "start_time_unix_nano": START + number * 1_000_000,
            "name": f"span {number}",
            "flags": REMOTE_KNOWN,
            **fields,
        },
    )


def request(*spans: Span, resource: Mapping[str, str] | None = None) -> ExportTraceServiceRequest:
    export = ExportTraceServiceRequest()
    resource_spans = export.resource_spans.add()
    for key, value in (resource or {}).items():
        resource_spans.resource.attributes.add(key=key).value.string_value = value
    resource_spans.scope_spans.add().spans.extend(spans)
    return export


def attributes_of(found: Span) -> dict[str, Any]:
    return decode_attributes(found.attributes)


def given_to(
    *spans: Span, parts: frozenset[Part] = ALL, resource: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """What each span is given, in the order of the request."""
    export = request(*spans, resource=resource)
    harmonise(export, parts=parts, notes={})
    before = {bytes(each.span_id): attributes_of(each) for each in spans}
    return [
        {
            key: value
            for key, value in attributes_of(after).items()
            if before[bytes(after.span_id)].get(key) != value and not key.startswith("sidespan.")
        }
        for after in all_spans(export)
    ]


def one(attributes: dict[str, Any], parts: frozenset[Part] = ALL) -> dict[str, Any]:
    return given_to(span(1, None, attributes), parts=parts)[0]


def usage(input: int, output: int, **more: int) -> dict[str, int]:
    return {"input_tokens": input, "output_tokens": output, "total_tokens": input + output, **more}


WEB = {"http.request.method": "POST", "http.route": "/ask"}
AGENT = {"gen_ai.operation.name": "invoke_agent"}


# a trace in parts


def in_requests(
    spans: Sequence[Sequence[Span]], parts: frozenset[Part] = ALL
) -> tuple[list[ExportTraceServiceRequest], dict[bytes, bytes]]:
    """The spans as one request after the other, with what each leaves for the next."""
    notes: dict[bytes, bytes] = {}
    sent = []
    for some in spans:
        export = request(*(copied(each) for each in some))
        notes |= harmonise(export, parts=parts, notes=notes).notes
        sent.append(export)
    return sent, notes


def copied(original: Span) -> Span:
    copy = Span()
    copy.CopyFrom(original)
    return copy


def as_mlflow_takes_it(sent: Sequence[ExportTraceServiceRequest]) -> dict[str, Any]:
    """Name, session and user as MLflow 3.17 makes them of requests, one after the other."""
    taken: dict[str, Any] = {"name": None, "session": None, "user": None}
    for export in sent:
        found = [attributes_of(each) for each in all_spans(export)]
        for key, names in (
            ("session", ("session.id", "gen_ai.conversation.id")),
            ("user", ("user.id",)),
        ):
            said = next((f[n] for f in found for n in names if n in f), None)
            taken[key] = taken[key] or said or None
        for each in all_spans(export):
            if not each.parent_span_id:
                taken["name"] = attributes_of(each).get(NAME, taken["name"])
    return taken
