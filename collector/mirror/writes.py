"""Which traces were written since they were last read, and which writes are on their way.

Every write that Sidespan sends or passes on begins and ends here. A question waits until all that had begun
before it have ended and were read again, so an answer never lacks what its client has seen written.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

# MLflow goes on with a request whose client has gone: that long until what it wrote is surely there
LOST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class WritesMark:
    """A moment: how often writes had begun or ended, and whether any was on its way."""

    number: int
    others: int
    is_any_open: bool


@dataclass(slots=True)
class Writes:
    """`number` grows with each beginning and end. `matters` says whether an experiment is held at all."""

    matters: Callable[[str | None], bool]
    number: int = 0
    # how many writes have ended
    ends: int = 0
    # the end of the last write of which nobody knows what it has changed
    unknown_at: int = 0
    # how often something else was written, which may have changed traces behind our back
    others: int = 0
    _others_open: int = 0
    # when it began -> the experiment, None: nobody knows which
    _open: dict[int, str | None] = field(default_factory=dict)
    # experiment, None for any of them -> `number` at the last beginning or end
    _touched: dict[str | None, int] = field(default_factory=dict)
    # of those whose answer never came
    _lost: dict[int, str | None] = field(default_factory=dict)
    # trace id -> when the first write of it began that wasn't read, when the last one ended
    _changed: dict[str, tuple[int, int]] = field(default_factory=dict)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def other_begins(self) -> Callable[[], None]:
        """A request that writes something else is about to be sent; call what is returned at its end."""
        self.others += 1
        self._others_open += 1

        def ended() -> None:
            self.others += 1
            self._others_open -= 1

        return ended

    @property
    def mark(self) -> WritesMark:
        """This moment, for `were_any_since`."""
        is_any_open = bool(self._open or self._lost or self._others_open)
        return WritesMark(self.number, self.others, is_any_open)

    def were_any_since(self, mark: WritesMark) -> bool:
        """Whether anything was on its way between that moment and now."""
        return mark.is_any_open or (mark.number, mark.others) != (self.number, self.others)

    def unknown(self) -> int:
        """Somebody else has written, nobody knows what: `number`, to know this time by."""
        self.number += 1
        self.unknown_at = self.number
        self._wake()
        return self.number

    def begins(self, experiment_id: str | None = None) -> "OpenWrite":
        """A request that writes is about to be sent."""
        self.number += 1
        self._open[self.number] = experiment_id
        self._touched[experiment_id] = self.number
        return OpenWrite(self, self.number)

    def end(
        self, begun: int, trace_ids: Iterable[str], *, experiment_id: str | None, all_known: bool
    ) -> None:
        """It has its answer, or nobody waits for one any more."""
        self.number += 1
        self.ends += 1
        self._touched[self._open.pop(begun, experiment_id)] = self.number
        if self.matters(experiment_id):
            self._note(trace_ids, begun)
        if not all_known:
            self.unknown_at = self.number
        self._wake()

    def lose(
        self, begun: int, trace_ids: Iterable[str], *, experiment_id: str | None, all_known: bool
    ) -> None:
        """Its answer won't come: MLflow may have written, may still write, or never will."""
        self._lost[begun] = self._open.pop(begun, experiment_id)
        ids = tuple(trace_ids)
        asyncio.get_running_loop().call_later(
            LOST_SECONDS, lambda: self._end_lost(begun, ids, experiment_id, all_known)
        )
        self._wake()

    def _end_lost(self, begun: int, ids: Iterable[str], experiment_id: str | None, all_known: bool) -> None:
        self._lost.pop(begun, None)
        self.end(begun, ids, experiment_id=experiment_id, all_known=all_known)

    def is_lost(self, among: Collection[str]) -> bool:
        """Whether nobody knows yet what became of a write to these experiments."""
        return any(of is None or of in among for of in self._lost.values())

    def note(self, trace_ids: Iterable[str]) -> None:
        """These are to be read again."""
        self._note(trace_ids, self.number)
        self._wake()

    def _note(self, trace_ids: Iterable[str], begun: int) -> None:
        for trace_id in trace_ids:
            first, _ = self._changed.get(trace_id, (begun, 0))
            self._changed[trace_id] = (min(first, begun), self.number)

    def waiting(self, most: int) -> dict[str, int]:
        """The first traces that are to be read again; for `done`."""
        found: dict[str, int] = {}
        for trace_id, (_, ended) in self._changed.items():
            if len(found) == most:
                break
            found[trace_id] = ended
        return found

    def done(self, read: dict[str, int]) -> None:
        """They were read, each after the write had ended that `waiting` told of."""
        for trace_id, ended in read.items():
            if trace_id in self._changed and self._changed[trace_id][1] == ended:
                del self._changed[trace_id]
        self._wake()

    def put_off(self, trace_ids: Iterable[str]) -> None:
        """They can't be read now: others first."""
        for trace_id in trace_ids:
            if trace_id in self._changed:
                self._changed[trace_id] = self._changed.pop(trace_id)

    def forget(self) -> None:
        """Nothing is held any more that is to be read again."""
        self._changed.clear()
        self._wake()

    @property
    def backlog(self) -> int:
        """How many traces are to be read again."""
        return len(self._changed)

    def is_settled(self, upto: int, among: Collection[str]) -> bool:
        """Whether all that had begun by `upto` in these experiments has ended, and was read."""
        is_open = any(begun <= upto and (of is None or of in among) for begun, of in self._open.items())
        return not is_open and all(begun > upto for begun, _ in self._changed.values())

    def quiet(self, experiment_id: str) -> int | None:
        """Another number after each write to this experiment; None: not all of them were read."""
        if self.is_lost([experiment_id]) or not self.is_settled(self.number, [experiment_id]):
            return None
        return max(self._touched.get(experiment_id, 0), self._touched.get(None, 0))

    async def settled(self, upto: int, among: Collection[str]) -> None:
        """Wait for it."""
        while not self.is_settled(upto, among):
            moved = self._moved
            await moved.wait()

    async def moved(self) -> None:
        """Wait until something happens."""
        await self._moved.wait()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


@dataclass(slots=True)
class OpenWrite:
    """One write on its way."""

    writes: Writes
    begun: int

    def ended(
        self,
        trace_ids: Iterable[str],
        *,
        all_known: bool = True,
        answered: bool = True,
        experiment_id: str | None = None,
    ) -> None:
        """`trace_ids` are MLflow's (tr-…); `all_known` False: it may have changed others too.

        `answered` False: its answer was lost, and it may be written yet.
        """
        end = self.writes.end if answered else self.writes.lose
        end(self.begun, trace_ids, experiment_id=experiment_id, all_known=all_known)
