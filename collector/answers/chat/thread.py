"""The conversation in one trace: what the user asked, what the agent did and said, each once. Pure.

    calls of models that no tool made, by start    an agent behind a tool talks to that tool, not to the user
      given, up to the last words of the user      earlier turns: counted, not shown
      given and not seen yet                       results of tools, further questions
      returned                                     words and calls
    + results at their calls, tools' spans at theirs
    + the question and the answer from other spans, where no call of a model has them

A message that is given to the next call again is the same message: it is shown where it first stands.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.answers.chat.matching import matched
from collector.answers.chat.of_span import SpanChat, is_in_words, plain_value, span_chat
from collector.answers.chat.reading import ASSISTANT, SYSTEM, USER
from collector.answers.chat.values import (
    Call,
    ChatMessage,
    Failure,
    Result,
    Thread,
    ThreadMessage,
    ToolRun,
    Words,
)
from collector.spans.conventions import ObservationKind
from collector.spans.facts import decode_attributes, export_facts
from collector.spans.tree import Tree, build_tree
from collector.spans.values import SpanFacts

TOOL_CALL_IDS = ("gen_ai.tool.call.id", "tool_call.id", "ai.toolCall.id", "mastra.metadata.toolCallId")
# who may have put the question or given the answer, where no model call tells
SPEAKING = frozenset(
    {
        ObservationKind.AGENT,
        ObservationKind.WORKFLOW,
        ObservationKind.CHAIN,
        ObservationKind.TASK,
        ObservationKind.LLM,
        ObservationKind.OTHER,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """What one span says, with its facts."""

    facts: SpanFacts
    chat: SpanChat


def thread_of(export: ExportTraceServiceRequest, trace_id: bytes) -> Thread:
    """The conversation of the trace (its 16 bytes) in an export."""
    tree = build_tree(export_facts(export, trace_id=trace_id))
    spans = {span.span_id.hex(): span for span in _spans(export, trace_id)}
    above = _main(tree)
    calls = _model_calls(tree, above, spans)
    others = [facts for facts in above if facts.kind in SPEAKING]
    messages, earlier = _merged(calls)
    messages = _with_question(messages, others, spans)
    messages = _with_failure(_with_answer(messages, others, spans), above)
    tools = [_tool_run(facts, spans) for facts in above if facts.kind is ObservationKind.TOOL]
    return Thread(messages=tuple(matched(messages, tools)), earlier_messages=earlier)


def _spans(export: ExportTraceServiceRequest, trace_id: bytes) -> Iterator[Span]:
    for resource_spans in export.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            yield from (span for span in scope_spans.spans if span.trace_id == trace_id)


def _main(tree: Tree) -> list[SpanFacts]:
    """The spans that no tool stands above, in walking order, tools themselves included."""
    behind: list[bool] = []
    for parent in tree.parents:
        behind.append(
            parent is not None and (behind[parent] or tree.spans[parent].kind is ObservationKind.TOOL)
        )
    return [span for span, hidden in zip(tree.spans, behind, strict=True) if not hidden]


def _model_calls(tree: Tree, above: Sequence[SpanFacts], spans: Mapping[str, Span]) -> list[Speech]:
    """The innermost calls that say anything: a call may be traced twice, or have steps of its own."""
    main = {facts.span_id for facts in above}
    has_inner = [False] * len(tree.spans)
    found: list[Speech] = []
    for position in range(len(tree.spans) - 1, -1, -1):
        facts, parent = tree.spans[position], tree.parents[position]
        speaks = has_inner[position]
        if facts.kind is ObservationKind.LLM and not speaks and facts.span_id in main:
            chat = span_chat(spans[facts.span_id])
            speaks = is_in_words(chat.given) or is_in_words(chat.returned)
            if speaks:
                found.append(Speech(facts=facts, chat=chat))
        if parent is not None and speaks:
            has_inner[parent] = True
    return sorted(found, key=lambda each: (each.facts.start_unix_ns, each.facts.span_id))


def _merged(calls: Sequence[Speech]) -> tuple[list[ThreadMessage], int]:
    """The messages of the calls, each once, and how many of earlier turns the first one was given."""
    seen: Counter[str] = Counter()
    messages: list[ThreadMessage] = []
    earlier = 0
    for number, call in enumerate(calls):
        given = [message for message in call.chat.given if message.role != SYSTEM]
        if number == 0:
            earlier = _question_at(given)
            seen.update(map(_key, given[:earlier]))
        messages += _given(call.facts, given, seen)
        returned = call.chat.returned if is_in_words(call.chat.returned) else ()
        messages += _returned(call.facts, returned, seen)
    return messages, earlier


def _question_at(given: Sequence[ChatMessage]) -> int:
    """Where the words of the user stand that this trace answers: the last ones, all in a row."""
    at = next((place for place in range(len(given) - 1, -1, -1) if given[place].role == USER), 0)
    while at > 0 and given[at - 1].role == USER:
        at -= 1
    return at


def _given(facts: SpanFacts, given: Iterable[ChatMessage], seen: Counter[str]) -> Iterator[ThreadMessage]:
    here: Counter[str] = Counter()
    for message in given:
        key = _key(message)
        here[key] += 1
        if here[key] > seen[key]:
            seen[key] += 1
            yield _said(facts, message, facts.start_unix_ns)


def _returned(
    facts: SpanFacts, returned: Iterable[ChatMessage], seen: Counter[str]
) -> Iterator[ThreadMessage]:
    last = None
    for message in returned:
        seen[_key(message)] += 1
        last = _said(facts, message, facts.end_unix_ns)
        yield last
    if last is None and facts.is_error:
        yield _said(facts, ChatMessage(role=ASSISTANT, parts=()), facts.end_unix_ns)


def _said(facts: SpanFacts, message: ChatMessage, time_unix_ns: int) -> ThreadMessage:
    return ThreadMessage(
        role=message.role,
        name=message.name,
        parts=message.parts,
        span_id=facts.span_id,
        time_unix_ns=time_unix_ns,
        failure=None if message.parts else _failure(facts),
    )


def _key(message: ChatMessage) -> str:
    """The same for a message as a model returned it and as the next call is given it: without reasoning,
    without ids that only one of the two has."""
    told = [each for part in message.parts if (each := _told(part)) is not None]
    return json.dumps([message.role, told], sort_keys=True, default=str)


def _told(part: Any) -> Any:
    match part:
        case Words(is_reasoning=True):
            return None
        case Words(text=text):
            return text.strip()
        case Call(name=name, arguments=arguments):
            return ["call", name, arguments]
        case Result(id=id, content=content):
            return ["result", id, content]
        case _:
            return repr(part)


def _with_question(
    messages: list[ThreadMessage], others: Sequence[SpanFacts], spans: Mapping[str, Span]
) -> list[ThreadMessage]:
    """With the user's words from the first other span that has them, where no call was given any."""
    if any(message.role == USER for message in messages):
        return messages
    for facts in sorted(others, key=lambda each: each.start_unix_ns):
        given = span_chat(spans[facts.span_id]).given
        asked = given[_question_at(given) :] if is_in_words(given) else ()
        if asked and asked[0].role == USER:
            return [_said(facts, asked[0], facts.start_unix_ns), *messages]
    return messages


def _with_answer(
    messages: list[ThreadMessage], others: Sequence[SpanFacts], spans: Mapping[str, Span]
) -> list[ThreadMessage]:
    """With the answer of the last other span that has one, where the messages end without any."""
    if messages and messages[-1].role == ASSISTANT and _has_words(messages[-1].parts):
        return messages
    if messages and messages[-1].failure is not None:
        return messages
    for facts in sorted(others, key=lambda each: -each.end_unix_ns):
        returned = span_chat(spans[facts.span_id]).returned
        if returned and returned[-1].role == ASSISTANT and _has_words(returned[-1].parts):
            return [*messages, _said(facts, returned[-1], facts.end_unix_ns)]
    return messages


def _with_failure(messages: list[ThreadMessage], above: Sequence[SpanFacts]) -> list[ThreadMessage]:
    """With the failure of the trace, where no message tells of one and none is an answer."""
    failed = next((facts for facts in above if facts.is_error and not facts.is_recovered_retry), None)
    answered = messages and messages[-1].role == ASSISTANT and _has_words(messages[-1].parts)
    if failed is None or answered or any(message.failure for message in messages):
        return messages
    if failed.kind is ObservationKind.TOOL:  # its call says it
        return messages
    return [*messages, _said(failed, ChatMessage(role=ASSISTANT, parts=()), failed.end_unix_ns)]


def _has_words(parts: Iterable[Any]) -> bool:
    return any(isinstance(part, Words) and not part.is_reasoning for part in parts)


def _tool_run(facts: SpanFacts, spans: Mapping[str, Span]) -> ToolRun:
    span = spans[facts.span_id]
    chat = span_chat(span)
    said = decode_attributes(span.attributes, TOOL_CALL_IDS)
    return ToolRun(
        span_id=facts.span_id,
        name=facts.tool or facts.name,
        call_id=next((str(said[key]) for key in TOOL_CALL_IDS if said.get(key)), None),
        start_unix_ns=facts.start_unix_ns,
        duration_seconds=facts.duration_ns / 1e9,
        arguments=plain_value(chat.given),
        result=plain_value(chat.returned),
        failure=_failure(facts),
    )


def _failure(facts: SpanFacts) -> Failure | None:
    return Failure(type=facts.error_type, message=facts.error_message) if facts.is_error else None
