"""What Kafka's form says of one trace that isn't delivered yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.journal import CannotTell
from collector.journal.kafka.owned import DELIVER
from collector.model.batch import DeadLetter, Route, Signal, signal_of

if TYPE_CHECKING:  # which opens this
    from collector.journal.kafka.journal import KafkaJournal

NOT_HERE = "this process doesn't own the partition of the trace: another replica has it"


@dataclass(frozen=True, slots=True)
class KafkaPendingTraces:
    """See `PendingTraces`: of the traces whose partitions this process owns."""

    journal: "KafkaJournal"

    async def payloads(self, trace_id: bytes) -> Sequence[bytes] | CannotTell:
        self.journal.check_open()
        deliver = self.journal.groups.get(DELIVER)
        held = None if deliver is None else await deliver.reading.holders(trace_id)
        if deliver is None or held is None:
            return CannotTell(reason=NOT_HERE)
        letters = await self.journal.letters.whole(await self._letters(trace_id))
        return [*(letter.payload for letter in letters), *await deliver.reading.payloads(held)]

    async def routes(self, trace_id: bytes) -> Sequence[Route] | CannotTell:
        self.journal.check_open()
        deliver = self.journal.groups.get(DELIVER)
        held = None if deliver is None else await deliver.reading.holders(trace_id)
        if held is None:
            return CannotTell(reason=NOT_HERE)
        lanes = [*(letter.lane for letter in await self._letters(trace_id)), *(each.lane for each in held)]
        return [Route.from_lane(lane) for lane in lanes]

    async def _letters(self, trace_id: bytes) -> list[DeadLetter]:
        letters = await self.journal.letters.holding(trace_id)
        return [letter for letter in letters if signal_of(letter.lane) is Signal.TRACES]
