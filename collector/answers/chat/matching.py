"""Results of tools and tools' own spans, each put to the call that asked for it. Pure.

By the id of the call; where there is none, or none that fits, by the name, in order.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from collector.answers.chat.reading import ASSISTANT
from collector.answers.chat.values import (
    AnsweredCall,
    Call,
    ChatPart,
    Result,
    ThreadMessage,
    ToolRun,
)

ANY = object()


@dataclass(slots=True, kw_only=True)
class OpenCall:
    """A call while its result and its span are looked for."""

    call: Call
    result: Result | None = None
    run: ToolRun | None = None

    def done(self) -> AnsweredCall:
        return AnsweredCall(call=self.call, result=self.result, run=self.run)


class WaitingCalls:
    """Calls that wait for something, each until it has it (`is_done`); found without going through all."""

    def __init__(self, is_done: Callable[[OpenCall], bool]) -> None:
        self._is_done = is_done
        self._count = 0
        self._waiting: dict[tuple[object, ...], deque[tuple[int, OpenCall]]] = {}

    def add(self, asked: OpenCall) -> None:
        """Let it wait, behind those that wait already."""
        self._count += 1
        has_id, name = asked.call.id is not None, _plain(asked.call.name)
        for key in ((asked.call.id,), (has_id, name), (has_id, ANY)):
            self._waiting.setdefault(key, deque()).append((self._count, asked))

    def by_id(self, id: str | None) -> OpenCall | None:
        """The first one with this id; None stands for none."""
        found = None if id is None else self._first((id,))
        return None if found is None else found[1]

    def by_name(self, name: str | None, *, with_id: bool) -> OpenCall | None:
        """The first one with this name, of those without an id or (`with_id`) of all; None fits any."""
        names = (ANY,) if name is None else (_plain(name), None)
        heads = [self._first((has_id, name)) for has_id in {False, with_id} for name in names]
        found = min((head for head in heads if head is not None), key=itemgetter(0), default=None)
        return None if found is None else found[1]

    def _first(self, key: tuple[object, ...]) -> tuple[int, OpenCall] | None:
        waiting = self._waiting.get(key, deque())
        while waiting and self._is_done(waiting[0][1]):
            waiting.popleft()
        return waiting[0] if waiting else None


def matched(messages: Sequence[ThreadMessage], runs: Sequence[ToolRun]) -> list[ThreadMessage]:
    """The messages with whole calls in the place of calls and results.

    A tool that no message asked for is a call of its own, before the first message that is later.
    """
    asked: list[OpenCall] = []
    without_result = WaitingCalls(lambda each: each.result is not None)
    kept = [_taken(message, asked, without_result) for message in messages]
    lonely = _place_runs(sorted(runs, key=lambda run: run.start_unix_ns), asked)
    whole = [each for each in (_whole(message, parts) for message, parts in kept) if each is not None]
    return list(_in_time(whole, deque(map(_of_run, lonely))))


Taken = tuple[ThreadMessage, list[ChatPart | AnsweredCall | OpenCall]]


def _taken(message: ThreadMessage, asked: list[OpenCall], without_result: WaitingCalls) -> Taken:
    """The message's parts: calls to be completed, without the results that went to one."""
    parts: list[ChatPart | AnsweredCall | OpenCall] = []
    for part in message.parts:
        if isinstance(part, Call):
            asked.append(OpenCall(call=part))
            without_result.add(asked[-1])
            parts.append(asked[-1])
        elif not (isinstance(part, Result) and _put(part, without_result)):
            parts.append(part)
    return message, parts


def _put(result: Result, without_result: WaitingCalls) -> bool:
    """An id that fits no call is no reason to guess: the call stands in an earlier trace."""
    place = without_result.by_id(result.id) or without_result.by_name(result.name, with_id=result.id is None)
    if place is not None:
        place.result = result
    return place is not None


def _place_runs(runs: Iterable[ToolRun], asked: Iterable[OpenCall]) -> list[ToolRun]:
    """Put each run to its call; those that have none are left. Google ADK gives the two different ids."""
    by_id: dict[str | None, OpenCall] = {}
    without_run = WaitingCalls(lambda each: each.run is not None)
    for each in asked:
        by_id.setdefault(each.call.id, each)
        without_run.add(each)
    left = [run for run in runs if run.call_id is None or not _place(run, by_id.get(run.call_id))]
    return [run for run in left if not _place(run, without_run.by_name(run.name, with_id=True))]


def _place(run: ToolRun, asked: OpenCall | None) -> bool:
    if asked is None or asked.run is not None:
        return False
    asked.run = run
    return True


def _plain(name: str | None) -> str | None:
    """Semantic Kernel names a tool with its plugin, smolagents by its class."""
    return None if name is None else name.rpartition("-")[2].rpartition(".")[2].lower().replace("_", "")


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


def _in_time(messages: Sequence[ThreadMessage], tools: deque[ThreadMessage]) -> Iterator[ThreadMessage]:
    """The messages keep their order."""
    for message in messages:
        while tools and tools[0].time_unix_ns < message.time_unix_ns:
            yield tools.popleft()
        yield message
    yield from tools
