"""One owner at a time for a trace id, while it is on its way.

Two clients may send the same trace id into two experiments before MLflow has it in either. MLflow would merge
them, so a window waits while a trace id of it is being sent to another experiment; then MLflow says whose it
is. Windows take their turns in the order in which they ask, so nobody is kept waiting for ever.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

# after a request of which nobody knows whether MLflow still works on it
DOUBT_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Turn:
    """What one window sends. `in_doubt`: an answer is missing, so MLflow's word may be late."""

    owner: str = ""
    trace_ids: frozenset[bytes] = frozenset()
    in_doubt: bool = False
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def bars(self, owner: str, trace_ids: frozenset[bytes]) -> bool:
        """Whether it sends one of these trace ids to somebody else."""
        return self.owner != owner and not self.trace_ids.isdisjoint(trace_ids)


class Turns:
    """The windows of a worker that send or wait to send, in the order in which they came."""

    def __init__(self, *, doubt_seconds: float = DOUBT_SECONDS) -> None:
        self._doubt_seconds = doubt_seconds
        self._turns: list[Turn] = []

    @asynccontextmanager
    async def take(self, owner: str, trace_ids: Collection[bytes]) -> AsyncIterator[Turn]:
        """Wait until none of these trace ids is on its way to another owner; they are ours in the block."""
        turn = Turn(owner=owner, trace_ids=frozenset(trace_ids))
        before = [each for each in self._turns if each.bars(owner, turn.trace_ids)]
        self._turns.append(turn)
        try:
            for each in before:
                await each.left.wait()
            yield turn
        finally:
            if turn.in_doubt:
                asyncio.get_running_loop().call_later(self._doubt_seconds, self._leave, turn)
            else:
                self._leave(turn)

    def _leave(self, turn: Turn) -> None:
        self._turns.remove(turn)
        turn.left.set()
