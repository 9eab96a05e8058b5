"""What leaves the process: OpenInference's attributes without what they break, and nothing twice."""

import asyncio
import json
from typing import Any

import pytest
from openinference.instrumentation.pydantic_ai import OpenInferenceSpanProcessor
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode
from pydantic import BaseModel
from pydantic_ai import Agent, InstrumentationSettings
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from instrumentation.mend import HIDDEN, Mending
from instrumentation.pydantic_ai import openinference

FULL = Mending(translate=openinference())


class Report(BaseModel):
    city: str


def agent_spans(*, include_content: bool = True, session: str | None = None) -> list[ReadableSpan]:
    """A run with structured output by the installed pydantic-ai, as its spans end."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        used = RequestUsage(
            input_tokens=10, output_tokens=2, cache_read_tokens=4, details={"reasoning_tokens": 1}
        )
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, {"city": "Paris"})], usage=used)

    settings = InstrumentationSettings(tracer_provider=provider, include_content=include_content)
    agent = Agent(
        FunctionModel(answer, model_name="gpt-4o"),
        name="weather",
        output_type=Report,
        capabilities=[Instrumentation(settings=settings)],
    )
    with provider.get_tracer("tests").start_as_current_span("web") as root:
        if session:
            root.set_attribute("session.id", session)
        asyncio.run(agent.run("Where is it sunny?"))  # run_sync leaves its event loop open
    return list(exporter.get_finished_spans())


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def named(spans: list[ReadableSpan], start: str) -> ReadableSpan:
    return next(span for span in spans if span.name.startswith(start))


def broken_by_openinference(spans: list[ReadableSpan]) -> list[ReadableSpan]:
    """What its own processor makes of copies. A version that mends itself shows in the tests below."""
    copies = [Mending().mend(span) for span in spans]
    for copy in copies:
        OpenInferenceSpanProcessor().on_end(copy)
    return copies


def test_a_good_span_does_not_become_an_error(caplog: pytest.LogCaptureFixture) -> None:
    spans = agent_spans(include_content=False)
    broken = broken_by_openinference(spans)
    assert StatusCode.ERROR in {span.status.status_code for span in broken}
    caplog.clear()
    assert {FULL.mend(span).status.status_code for span in spans} == {StatusCode.UNSET}
    assert caplog.records == []


def test_a_status_that_nobody_set_stays_unset() -> None:
    spans = agent_spans()
    assert StatusCode.OK in {span.status.status_code for span in broken_by_openinference(spans)}
    assert {FULL.mend(span).status.status_code for span in spans} == {StatusCode.UNSET}


def test_a_session_is_not_written_over_by_the_id_of_a_run() -> None:
    span = ReadableSpan(
        name="invoke_agent weather",
        attributes={
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "weather",
            "gen_ai.conversation.id": "run",
            "session.id": "chat-17",
        },
    )
    (broken,) = broken_by_openinference([span])
    assert attributes(broken)["session.id"] == "run"
    assert attributes(FULL.mend(span))["session.id"] == "chat-17"


def test_cached_and_reasoning_tokens_are_translated_too() -> None:
    spans = agent_spans()
    missing = attributes(named(broken_by_openinference(spans), "chat"))
    assert "llm.token_count.prompt_details.cache_read" not in missing
    found = attributes(FULL.mend(named(spans, "chat")))
    assert found["llm.token_count.prompt_details.cache_read"] == 4
    assert found["llm.token_count.completion_details.reasoning"] == 1
    assert found["openinference.span.kind"] == "LLM"


def test_the_span_itself_stays_as_it_was() -> None:
    spans = agent_spans()
    before = [(attributes(span), span.status) for span in spans]
    for span in spans:
        FULL.mend(span)
    assert [(attributes(span), span.status) for span in spans] == before


def test_everything_but_attributes_is_kept() -> None:
    span = agent_spans()[0]
    mended = FULL.mend(span)
    for name in ("name", "parent", "resource", "kind", "start_time", "end_time", "instrumentation_scope"):
        assert getattr(mended, name) == getattr(span, name)
    assert mended.get_span_context() == span.get_span_context()


def test_spans_of_others_are_left_alone() -> None:
    web = named(agent_spans(session="s"), "web")
    assert attributes(FULL.mend(web)) == {"session.id": "s"}


def test_a_conversation_is_sent_once() -> None:
    chat = named(agent_spans(), "chat")
    once = attributes(FULL.mend(chat))
    twice = attributes(Mending(translate=openinference(), repeat_content=True).mend(chat))
    gone = twice.keys() - once.keys()
    assert any(key.startswith("llm.input_messages.") for key in gone)
    assert any(key.startswith("llm.tools.") for key in gone)
    assert "logfire.json_schema" in gone
    assert "gen_ai.input.messages" in once
    assert len(json.dumps(once)) < 0.75 * len(json.dumps(twice))


def test_without_openinference_its_attributes_are_not_there() -> None:
    assert "openinference.span.kind" not in attributes(Mending().mend(named(agent_spans(), "chat")))


QUESTION, OUTPUT = "Where is it sunny?", "Paris"


@pytest.mark.parametrize("repeat_content", [False, True], ids=["once", "repeated"])
def test_hidden_inputs_do_not_leave(repeat_content: bool) -> None:
    hiding = Mending(translate=openinference(), repeat_content=repeat_content, hide_inputs=True)
    sent = json.dumps([attributes(hiding.mend(span)) for span in agent_spans()], default=str)
    assert QUESTION not in sent
    assert OUTPUT in sent


@pytest.mark.parametrize("repeat_content", [False, True], ids=["once", "repeated"])
def test_hidden_outputs_do_not_leave(repeat_content: bool) -> None:
    hiding = Mending(translate=openinference(), repeat_content=repeat_content, hide_outputs=True)
    sent = json.dumps([attributes(hiding.mend(span)) for span in agent_spans()], default=str)
    assert OUTPUT not in sent
    assert QUESTION in sent


def test_hidden_outputs_are_taken_out_of_the_history_too() -> None:
    history = [
        {"role": "user", "parts": [{"type": "text", "content": "first"}]},
        {"role": "assistant", "parts": [{"type": "text", "content": "secret answer"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "result": "secret result"}]},
    ]
    span = ReadableSpan(name="chat", attributes={"gen_ai.input.messages": json.dumps(history)})
    found = json.loads(str(attributes(Mending(hide_outputs=True).mend(span))["gen_ai.input.messages"]))
    assert found[0] == history[0]
    assert "secret" not in json.dumps(found)


def test_messages_that_cannot_be_read_are_hidden_whole() -> None:
    span = ReadableSpan(name="chat", attributes={"gen_ai.input.messages": '[{"role": "assist'})
    assert attributes(Mending(hide_outputs=True).mend(span)) == {"gen_ai.input.messages": HIDDEN}


def test_hiding_takes_the_words_of_errors_and_leaves_their_kind() -> None:
    quoted = {
        "exception.type": "ValueError",
        "exception.message": "bad: secret",
        "exception.stacktrace": "secret",
    }
    span = ReadableSpan(
        name="tool",
        events=[Event("exception", quoted)],
        status=Status(StatusCode.ERROR, "ValueError: bad: secret"),
    )
    mended = Mending(hide_inputs=True).mend(span)
    assert dict(mended.events[0].attributes or {}) == {"exception.type": "ValueError"}
    assert (mended.status.status_code, mended.status.description) == (StatusCode.ERROR, HIDDEN)


def test_a_hook_changes_drops_and_loses_what_it_fails_on(caplog: pytest.LogCaptureFixture) -> None:
    def redact(key: str, value: Any) -> Any:
        if key == "bad":
            raise RuntimeError("a bug")
        return None if key == "gone" else str(value).replace("ann", "***")

    span = ReadableSpan(name="x", attributes={"who": "ann", "gone": 1, "bad": "ann", "list": ("a",)})
    found = attributes(Mending(redact=redact).mend(span))
    assert found == {"who": "***", "list": "('a',)"}
    assert "bad" in caplog.text
    assert "ann" not in caplog.text
