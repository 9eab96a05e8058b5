"""Whether MLflow's database is as it was when the copies were compared with it, and if not, who changed it.

A change while no write of ours was on its way is somebody else's: nobody knows what it was, so all is read
again. A change while one was is taken for ours; what somebody else wrote in that moment is found when the
copies are read again in the background.
"""

import asyncio
from dataclasses import dataclass, field

from collector.mirror.database import DatabaseAway
from collector.mirror.question import NotAnswered, PassOnReason
from collector.mirror.watched import DatabaseState, WatchedDatabase
from collector.mirror.writes import Writes, WritesMark


@dataclass(slots=True)
class DatabaseProof:
    """`ours` and `elsewhere` count changes; `elsewhere_at` is Writes.number at the last one elsewhere."""

    database: WatchedDatabase
    writes: Writes
    ours: int = 0
    elsewhere: int = 0
    elsewhere_at: int = -1
    _seen: DatabaseState | None = None
    # before the last look began
    _mark: WritesMark | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self) -> DatabaseState:
        """The state at a moment during this call. Raises NotAnswered: the file can't be read."""
        async with self._looking:
            mark = self.writes.mark
            try:
                state = await self.database.look()
            except DatabaseAway:
                raise NotAnswered(PassOnReason.FAILED) from None
            if self._seen is not None and state != self._seen:
                # a file that was put in its place is no write of ours, whatever was on its way
                self._note(may_be_ours=state.opened == self._seen.opened)
            self._seen, self._mark = state, mark
            return state

    def _note(self, *, may_be_ours: bool) -> None:
        assert self._mark is not None
        if may_be_ours and self.writes.were_any_since(self._mark):
            self.ours += 1
        else:
            self.elsewhere += 1
            self.elsewhere_at = self.writes.unknown()
