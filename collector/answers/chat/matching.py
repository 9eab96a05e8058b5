"""Results of tools and tools' own spans, each put to the call that asked for it. Pure.

By the id of the call; where there is none, or none that fits, by the name, in order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from collector.answers.chat.reading import ASSISTANT
from collector.answers.chat.values import (
    AnsweredCall,
    Call,
    ChatPart,
    Result,
    ThreadMessage,
    ToolRun,
)


@dataclass(slots=True, kw_only=True)
class OpenCall:
    """A call while its result and its span are looked for."""

    call: Call
    result: Result | None = None
    run: ToolRun | None = None

    def done(self) -> AnsweredCall:
        return AnsweredCall(call=self.call, result=self.result, run=self.run)


def matched(messages: Sequence[ThreadMessage], runs: Sequence[ToolRun]) -> list[ThreadMessage]:
    """The messages with whole calls in the place of calls and results.

    A tool that no message asked for is a call of its own, before the first message that is later.
    """
    asked: list[OpenCall] = []
    kept = [_taken(message, asked) for message in messages]
    lonely = _place_runs(sorted(runs, key=lambda run: run.start_unix_ns), asked)
    whole = [each for each in (_whole(message, parts) for message, parts in kept) if each is not None]
    return list(_in_time(whole, [_of_run(run) for run in lonely]))


Taken = tuple[ThreadMessage, list[ChatPart | AnsweredCall | OpenCall]]


def _taken(message: ThreadMessage, asked: list[OpenCall]) -> Taken:
    """The message's parts: calls to be completed, without the results that went to one."""
    parts: list[ChatPart | AnsweredCall | OpenCall] = []
    for part in message.parts:
        if isinstance(part, Call):
            asked.append(OpenCall(call=part))
            parts.append(asked[-1])
        elif not (isinstance(part, Result) and _put(part, asked)):
            parts.append(part)
    return message, parts


def _put(result: Result, asked: Iterable[OpenCall]) -> bool:
    """An id that fits no call is no reason to guess: the call stands in an earlier trace."""
    waiting = [each for each in asked if each.result is None]
    fitting = (each for each in waiting if each.call.id == result.id or None in (each.call.id, result.id))
    place = _by_id(waiting, result.id) or _by_name(fitting, result.name)
    if place is not None:
        place.result = result
    return place is not None


def _place_runs(runs: Iterable[ToolRun], asked: Sequence[OpenCall]) -> list[ToolRun]:
    """Put each run to its call; those that have none are left. Google ADK gives the two different ids."""
    left = [run for run in runs if not _place(run, _by_id(asked, run.call_id))]
    return [run for run in left if not _place(run, _by_name(_without_run(asked), run.name))]


def _place(run: ToolRun, asked: OpenCall | None) -> bool:
    if asked is None or asked.run is not None:
        return False
    asked.run = run
    return True


def _without_run(asked: Iterable[OpenCall]) -> Iterator[OpenCall]:
    return (each for each in asked if each.run is None)


def _by_id(asked: Iterable[OpenCall], id: str | None) -> OpenCall | None:
    return next((each for each in asked if id is not None and each.call.id == id), None)


def _by_name(asked: Iterable[OpenCall], name: str | None) -> OpenCall | None:
    return next((each for each in asked if _same_name(each.call.name, name)), None)


def _same_name(one: str | None, other: str | None) -> bool:
    return one is None or other is None or _plain(one) == _plain(other)


def _plain(name: str) -> str:
    """Semantic Kernel names a tool with its plugin, smolagents by its class."""
    return name.rpartition("-")[2].rpartition(".")[2].lower().replace("_", "")


def _whole(
    message: ThreadMessage, parts: Iterable[ChatPart | AnsweredCall | OpenCall]
) -> ThreadMessage | None:
    done = tuple(part.done() if isinstance(part, OpenCall) else part for part in parts)
    return replace(message, parts=done) if done or message.failure is not None else None


def _of_run(run: ToolRun) -> ThreadMessage:
    call = Call(id=run.call_id, name=run.name, arguments=run.arguments)
    return ThreadMessage(
        role=ASSISTANT,
        name=None,
        parts=(AnsweredCall(call=call, run=run),),
        span_id=run.span_id,
        time_unix_ns=run.start_unix_ns,
    )


def _in_time(messages: Sequence[ThreadMessage], tools: list[ThreadMessage]) -> Iterator[ThreadMessage]:
    """The messages keep their order."""
    for message in messages:
        while tools and tools[0].time_unix_ns < message.time_unix_ns:
            yield tools.pop(0)
        yield message
    yield from tools
