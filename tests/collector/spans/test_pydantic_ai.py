"""Real agents of the installed pydantic-ai, in each format of its spans, and what is read in them."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    InstrumentationSettings,
    ModelRetry,
    PydanticAIDeprecationWarning,
    RetryModelRequest,
    RunContext,
)
from pydantic_ai.capabilities import AbstractCapability, Instrumentation, ModelFallback
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.models.decision import (
    ChoiceAnswer,
    DecisionModel,
    DecisionModelSettings,
    DecisionRequest,
    DecisionResponse,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.realtime import RealtimeModel
from pydantic_ai.realtime.codec import (
    AudioDelta,
    OutputTranscript,
    RealtimeConnection,
    RealtimeInput,
    ResponseDone,
    SessionUsage,
)
from pydantic_ai.realtime.lifecycle import InferredLifecycle, LifecycleEvent, RealtimeFrame
from pydantic_ai.usage import RequestUsage

from collector.spans.conventions import ObservationKind
from collector.spans.facts import export_facts
from collector.spans.summary import summarise
from collector.spans.summary_models import TraceStatus, TraceSummary
from collector.spans.values import SpanFacts, Tokens

Format = Literal[2, 3, 4, 5, 6]
FORMATS: tuple[Format, ...] = (2, 3, 4, 5, 6)
USED = {"input_tokens": 10, "output_tokens": 2}


class Traced:
    """Agents whose spans are kept."""

    def __init__(self, version: Format = 5) -> None:
        self._exporter, self._provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        settings = InstrumentationSettings(tracer_provider=self._provider, version=version)
        self.capability: Instrumentation[Any] = Instrumentation(settings=settings)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def facts(self) -> list[SpanFacts]:
        return list(export_facts(encode_spans(self.spans)))

    def summary(self) -> TraceSummary:
        found = self.facts()
        return summarise(found, trace_id=found[0].trace_id)


def say(*parts: Any, **used: Any) -> ModelResponse:
    return ModelResponse(parts=list(parts), usage=RequestUsage(**USED | used))


def answers(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return say(TextPart("Sunny."))


def model(function: Any = answers, name: str = "gpt-4o") -> FunctionModel:
    return FunctionModel(function, model_name=name)


def fails(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    raise ModelHTTPError(status_code=503, model_name="gpt-4o-mini")


@pytest.fixture(params=FORMATS, ids=[f"format_{version}" for version in FORMATS])
def traced(request: pytest.FixtureRequest) -> Traced:
    """In each format that the version knows; the older ones are deprecated."""
    if request.param < 5:
        with pytest.warns(PydanticAIDeprecationWarning):
            return Traced(request.param)
    return Traced(request.param)


async def test_a_tool_that_asks_for_another_try_is_a_recovered_retry(traced: Traced) -> None:
    def calls(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        tried = sum(isinstance(each, ModelResponse) for each in messages)
        return say(TextPart("Sunny.")) if tried == 2 else say(ToolCallPart("weather", {"city": "paris"}))

    agent = Agent(model(calls), name="weather", capabilities=[traced.capability])
    tries: list[str] = []

    @agent.tool_plain(retries=2)
    def weather(city: str) -> str:
        tries.append(city)
        if len(tries) == 1:
            raise ModelRetry("write the city with a capital")
        return "sunny"

    await agent.run("Weather in Paris?")
    found = traced.summary()
    assert (found.status, found.error_span_count, found.recovered_retry_count) == (TraceStatus.OK, 0, 1)
    assert (found.model_call_count, found.tool_call_count, found.agent) == (3, 2, "weather")
    assert (found.tokens.input, found.tokens.output) == (30, 6)
    assert {span.tool for span in traced.facts() if span.kind is ObservationKind.TOOL} == {"weather"}


class Report(BaseModel):
    """What is asked of the model."""

    degrees: int


async def test_an_output_that_is_refused_once_fails_nothing(traced: Traced) -> None:
    def reports(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        degrees = "cold" if len(messages) == 1 else 20
        return say(ToolCallPart(info.output_tools[0].name, {"degrees": degrees}))

    agent = Agent(
        model(reports), name="weather", output_type=Report, retries=2, capabilities=[traced.capability]
    )
    assert (await agent.run("How warm?")).output == Report(degrees=20)
    found = traced.summary()
    assert (found.status, found.error_span_count, found.model_call_count) == (TraceStatus.OK, 0, 2)


async def test_an_output_function_that_asks_for_another_try_is_a_recovered_retry(traced: Traced) -> None:
    tries: list[int] = []

    def report(degrees: int) -> int:
        tries.append(degrees)
        if len(tries) == 1:
            raise ModelRetry("too cold to be true")
        return degrees

    def reports(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return say(ToolCallPart(info.output_tools[0].name, {"degrees": 20}))

    agent = Agent(
        model(reports), name="weather", output_type=report, retries=2, capabilities=[traced.capability]
    )
    await agent.run("How warm?")
    found = traced.summary()
    assert (found.status, found.error_span_count, found.recovered_retry_count) == (TraceStatus.OK, 0, 1)
    assert found.model_call_count == 2


async def test_a_fallback_within_an_agent_is_two_calls_and_no_error(traced: Traced) -> None:
    capabilities: list[AbstractCapability[Any]] = [ModelFallback(model()), traced.capability]
    await Agent(model(fails, "gpt-4o-mini"), capabilities=capabilities).run("Weather?")
    found = traced.summary()
    assert (found.status, found.error_span_count, found.recovered_retry_count) == (TraceStatus.OK, 0, 1)
    assert (found.tokens.input, found.cost.unpriced_model_calls) == (10, 0)
    assert {(use.model, use.calls, use.errors) for use in found.models} == {
        ("gpt-4o", 1, 0),
        ("gpt-4o-mini", 1, 1),
    }


class Rejecting(AbstractCapability[Any]):
    """A hook that doesn't take the first answer."""

    def __init__(self) -> None:
        self.rejected = 0

    async def after_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, response: ModelResponse
    ) -> ModelResponse:
        if not self.rejected:
            self.rejected += 1
            raise RetryModelRequest
        return response


async def test_an_answer_that_a_hook_rejects_is_a_call_that_was_paid_for(traced: Traced) -> None:
    agent = Agent(model(), name="weather", capabilities=[Rejecting(), traced.capability])
    await agent.run("Weather?")
    found = traced.summary()
    assert (found.status, found.error_span_count, found.recovered_retry_count) == (TraceStatus.OK, 0, 1)
    assert (found.model_call_count, found.tokens.input, found.tokens.output) == (2, 20, 4)


class Chooses(DecisionModel[Any]):
    """The first option, always."""

    @property
    def model_name(self) -> str:
        return "decider"

    @property
    def system(self) -> str:
        return "tests"

    async def decide(
        self, request: DecisionRequest, model_settings: DecisionModelSettings
    ) -> DecisionResponse:
        options = {name: list(getattr(asked, "criteria", {})) for name, asked in request.questions.items()}
        return DecisionResponse(
            answers={
                name: ChoiceAnswer(
                    choice=labels[0],
                    confidence=0.9,
                    probabilities={label: 1 / len(labels) for label in labels},
                )
                for name, labels in options.items()
            },
            model_name="decider",
            usage=RequestUsage(input_tokens=30, output_tokens=1),
        )


class Ticket(BaseModel):
    """Where a question goes."""

    queue: Literal["billing", "support"]


async def test_a_decision_is_a_call_with_its_own_tokens(traced: Traced) -> None:
    agent = Agent(Chooses(), name="router", output_type=Ticket, capabilities=[traced.capability])
    assert (await agent.run("My bill is wrong.")).output.queue == "billing"
    found = traced.summary()
    assert ObservationKind.DECISION in {span.kind for span in traced.facts()}
    assert (found.status, found.tokens.input, found.tokens.output) == (TraceStatus.OK, 30, 1)
    assert found.model_call_count == 1


async def test_tokens_of_audio_are_read_and_summed(traced: Traced) -> None:
    def speaks(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return say(TextPart("Sunny."), input_audio_tokens=7, output_audio_tokens=1)

    agent = Agent(model(speaks), name="weather", capabilities=[traced.capability])
    await agent.run("Weather?")
    expected = Tokens(input=10, output=2, total=12, audio_input=7, audio_output=1)
    assert traced.summary().tokens == expected
    (run,) = (span for span in traced.facts() if span.kind is ObservationKind.AGENT)
    if run.aggregated_tokens.known:  # formats that give the sum over a run
        assert run.aggregated_tokens == expected


class Spoken(RealtimeConnection):
    """A connection on which the model says one sentence to whatever it is sent."""

    def __init__(self) -> None:
        self._lifecycle = InferredLifecycle()

    async def send(self, content: RealtimeInput) -> Sequence[LifecycleEvent] | None:
        self._lifecycle.input_sent(content)
        return self._lifecycle.take_pending()

    async def frames(self) -> AsyncIterator[RealtimeFrame]:
        used = RequestUsage(input_tokens=40, output_tokens=12, input_audio_tokens=30, output_audio_tokens=9)
        for event in (
            OutputTranscript("It is sunny.", is_final=True),
            AudioDelta(b"\0\0" * 240),
            SessionUsage(used),
            ResponseDone(),
        ):
            yield self._lifecycle.frame_for([event])


class Speaks(RealtimeModel):
    """A model to talk to."""

    @property
    def model_name(self) -> str:
        return "gpt-realtime"

    @property
    def system(self) -> str:
        return "openai"

    @asynccontextmanager
    async def connect(self, **_: Any) -> AsyncIterator[RealtimeConnection]:
        yield Spoken()


async def test_a_realtime_session_is_an_agents_run_with_its_calls(traced: Traced) -> None:
    agent = Agent(name="voice", capabilities=[traced.capability])
    async with agent.realtime(Speaks()).session() as session:
        await session.send("Weather?")
        async for _ in session:
            pass
    found = traced.summary()
    assert (found.status, found.agent, found.error_span_count) == (TraceStatus.OK, "voice", 0)
    assert (found.model_call_count, [use.model for use in found.models]) == (1, ["gpt-realtime"])
    assert found.tokens == Tokens(input=40, output=12, total=52, audio_input=30, audio_output=9)


async def test_a_prompt_that_the_model_sees_no_longer_stays_readable(traced: Traced) -> None:
    """From 2.66 on such a part says `visible: false`."""
    agent = Agent(model(), name="weather", instructions="Be brief.", capabilities=[traced.capability])
    first = await agent.run("Weather?")
    await agent.run("And tomorrow?", message_history=first.all_messages())
    chats = [span for span in traced.spans if span.name.startswith("chat")]
    asked = json.loads(str((chats[-1].attributes or {})["gen_ai.input.messages"]))
    assert "And tomorrow?" in json.dumps(asked)
