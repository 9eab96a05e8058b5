"""A model that needs no network: it calls the given tools one after the other, and then answers.

In your own program, use the name of a real model instead: `Agent("openai:gpt-5-mini", ...)`.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCalls, FunctionModel
from pydantic_ai.usage import RequestUsage

Call = tuple[str, dict[str, Any]]


def scripted(*calls: Call, answer: str) -> FunctionModel:
    """Calls each tool with its arguments, one after the other, then says `answer`; streams it if asked to."""

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        done = _answers_since_the_question(messages)
        used = RequestUsage(input_tokens=200 + 100 * done, output_tokens=20, cache_read_tokens=80 * done)
        part = ToolCallPart(*calls[done]) if done < len(calls) else TextPart(answer)
        return ModelResponse(parts=[part], usage=used)

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        for word in answer.split(" "):
            yield f"{word} "

    return FunctionModel(reply, stream_function=stream, model_name="gpt-4o")


def _answers_since_the_question(messages: Sequence[ModelMessage]) -> int:
    done = 0
    for message in messages:
        if any(part.part_kind == "user-prompt" for part in message.parts):
            done = 0
        done += isinstance(message, ModelResponse)
    return done
