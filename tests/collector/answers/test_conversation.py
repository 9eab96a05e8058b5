"""What was said in a trace, and what one span says, as the API answers it."""

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.testclient import TestClient

from collector.answers.chat.rendering import ChatBounds
from collector.answers.conversation import MAX_MESSAGES, ConversationPage, conversation
from collector.answers.span_detail import MAX_EVENTS, span_detail
from collector.answers.trace_source import Unanswered
from collector.api.traces import ROUTES
from tests.support.answers import own_app_with, traces_from
from tests.support.otlp import agent_export, all_spans, export
from tests.support.spans import any_value

BOUNDS = ChatBounds(max_characters=10_000, max_media_characters=0)


class Source:
    """Traces of one export."""

    def __init__(self, found: ExportTraceServiceRequest | Unanswered | None) -> None:
        self.found = found

    async def export(self, _: str) -> ExportTraceServiceRequest | Unanswered | None:
        return self.found


def client(found: ExportTraceServiceRequest | Unanswered | None) -> TestClient:
    return TestClient(own_app_with(ROUTES, traces=traces_from(Source(found))))


def of(span: Any, request: ExportTraceServiceRequest, bounds: ChatBounds = BOUNDS) -> dict[str, Any]:
    detail = span_detail(request, span.trace_id, span.span_id, bounds)
    assert detail is not None
    return detail


def test_the_messages_of_a_long_trace_come_in_pages() -> None:
    request = export(spans=MAX_MESSAGES + 51)
    for number, span in enumerate(all_spans(request)[1:]):
        span.attributes.add(key="openinference.span.kind").value.string_value = "TOOL"
        span.attributes.add(key="output.value").value.string_value = str(number)
        span.start_time_unix_nano += number
    trace_id = all_spans(request)[0].trace_id
    first = conversation(request, trace_id, ConversationPage(bounds=BOUNDS))
    assert (len(first["messages"]), first["message_count"]) == (MAX_MESSAGES, MAX_MESSAGES + 50)
    rest = conversation(request, trace_id, ConversationPage(from_message=MAX_MESSAGES, bounds=BOUNDS))
    assert [each["parts"][0]["result"]["text"] for each in rest["messages"]] == [
        str(number) for number in range(MAX_MESSAGES, MAX_MESSAGES + 50)
    ]


def test_a_span_says_its_messages_content_and_attributes_as_they_are_stored() -> None:
    request = agent_export("pydantic_ai_v5_tool_error.binpb")
    chat, tool = (
        next(span for span in all_spans(request) if name in span.name) for name in ("chat", "search_docs")
    )
    names = {each.key for each in chat.attributes}
    said = of(chat, request)
    assert set(said["attributes"]) == names, "without what harmonising would add"
    assert [message["role"] for message in said["given"]] == ["system", "user"]
    assert said["returned"][0]["parts"][0]["type"] == "tool_call"
    assert said["resource"]["service.name"]["text"]
    failed = of(tool, request)
    assert failed["exceptions"][0]["type"] == "RuntimeError"
    assert "query" in failed["input"]["text"]
    assert failed["given"] == [], "arguments of a tool are no messages"


def test_what_a_span_holds_is_bounded() -> None:
    request = export()
    (span,) = all_spans(request)
    span.attributes.add(key="long", value=any_value("x" * 100))
    for _ in range(MAX_EVENTS + 3):
        span.events.add(name="tick")
    said = of(span, request, ChatBounds(max_characters=10, max_media_characters=0))
    assert said["attributes"]["long"] == {"text": "x" * 10, "characters": 100, "is_json": False}
    assert (len(said["events"]), said["events_omitted"]) == (MAX_EVENTS, 3)


LONG = "x" * 300_000
LONG_PARTS: list[dict[str, Any]] = [
    {"type": "tool_call", "id": LONG, "name": LONG, "arguments": {}},
    {"type": "uri", "uri": f"https://example.com/{LONG}", "modality": "image", "name": LONG},
    {"type": "blob", "mime_type": LONG, "content": "AAAA", "modality": LONG},
    {"type": "blob", "mime_type": "image/png", "content": f"data:image/svg+xml,{LONG}", "modality": "image"},
]


def test_names_and_addresses_are_bounded_like_texts() -> None:
    request = export()
    (span,) = all_spans(request)
    span.name = span.status.message = LONG
    said = [{"role": LONG, "name": LONG, "parts": LONG_PARTS}, {"role": "user", "parts": ["hi"]}]
    for name, value in {
        "gen_ai.input.messages": json.dumps(said),
        "openinference.span.kind": "LLM",
        LONG: LONG,
    }.items():
        span.attributes.add(key=name).value.string_value = value
    span.events.add(name=LONG).attributes.add(key=LONG).value.string_value = LONG
    request.resource_spans[0].scope_spans[0].scope.name = LONG
    assert len(json.dumps(of(span, request))) < 150_000
    page = conversation(request, span.trace_id, ConversationPage(bounds=BOUNDS))
    assert page["message_count"] and len(json.dumps(page)) < 50_000


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("{trace}/conversation", 200, id="conversation"),
        pytest.param("{trace}/conversation?from_message=-1", 400, id="message_below_zero"),
        pytest.param("{trace}/conversation?max_characters=9999999", 400, id="too_many_characters"),
        pytest.param("xyz/conversation", 400, id="no_trace_id"),
        pytest.param("{trace}/spans/{span}", 200, id="span"),
        pytest.param("{trace}/spans/{span}?max_media_characters=x", 400, id="media_no_number"),
        pytest.param("{trace}/spans/xyz", 400, id="no_span_id"),
        pytest.param("{trace}/spans/ffffffffffffffff", 404, id="unknown_span"),
    ],
)
def test_the_routes_answer_or_say_what_is_wrong(path: str, status: int) -> None:
    request = export()
    (span,) = all_spans(request)
    asked = path.format(trace=span.trace_id.hex(), span=span.span_id.hex())
    assert client(request).get(f"/-/traces/{asked}").status_code == status


@pytest.mark.parametrize(
    ("found", "status"), [(None, 404), (Unanswered(reason="no connection"), 503)], ids=["unknown", "away"]
)
@pytest.mark.parametrize("end", ["conversation", f"spans/{'f' * 16}"])
def test_content_that_cannot_be_had_is_an_error_with_its_reason(found: Any, status: int, end: str) -> None:
    answer = client(found).get(f"/-/traces/{'1' * 32}/{end}")
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
