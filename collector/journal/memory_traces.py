"""What the journal in memory knows of traces."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.journal import NOTHING
from collector.journal.memory_entries import HeldClaim
from collector.model.batch import Route

if TYPE_CHECKING:
    from collector.journal.memory import MemoryJournal


@dataclass(frozen=True, slots=True)
class MemoryTraces:
    """See `TraceMemory`."""

    journal: "MemoryJournal"

    async def claim(
        self, claims: Mapping[bytes, str], *, clients: Mapping[bytes, str] = NOTHING
    ) -> Mapping[bytes, str]:
        self.journal._check_open()
        known = self.journal._claims
        for trace_id, target in claims.items():
            claim = HeldClaim(target=target, client=clients.get(trace_id, ""))
            held = known.setdefault(trace_id, claim)
            if not held.delivered and held.client != claim.client:
                known[trace_id] = claim
        return {trace_id: known[trace_id].target for trace_id in claims}

    async def recall(self, consumer: str, trace_ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        self.journal._check_open()
        notes = self.journal._notes
        return {id: notes[consumer, id] for id in trace_ids if (consumer, id) in notes}


@dataclass(frozen=True, slots=True)
class MemoryPendingTraces:
    """See `PendingTraces`."""

    journal: "MemoryJournal"

    async def payloads(self, trace_id: bytes) -> Sequence[bytes]:
        self.journal._check_open()
        return [bytes(holder.payload) for holder in self.journal._holders(trace_id)]

    async def routes(self, trace_id: bytes) -> Sequence[Route]:
        self.journal._check_open()
        return [Route.from_lane(holder.lane) for holder in self.journal._holders(trace_id)]
