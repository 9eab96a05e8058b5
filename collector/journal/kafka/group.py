"""A group of consumers in this process: the partitions that it owns, and what its consumers do with them.

Nothing is ever written for a partition that another member has: each transaction carries the group's
generation.
"""

import asyncio
import secrets
from collections.abc import Iterable, Sequence

from collector.journal.kafka.client import KafkaConnection
from collector.journal.kafka.fetching import Fetcher
from collector.journal.kafka.letters import LetterTable
from collector.journal.kafka.membership import GroupMembership
from collector.journal.kafka.owned import GroupMembers, OwnedPartition
from collector.journal.kafka.reading import GroupReading
from collector.journal.kafka.records import Kind, Names, Spot
from collector.journal.kafka.replaying import GroupReplay
from collector.journal.kafka.state import ConsumerGroupState
from collector.journal.kafka.transactions import Membership, TransactionWriter
from collector.journal.kafka.writing import GroupWriting


class KafkaGroup:
    """Opened in an event loop. `reading`, `writing` and `replaying` are what its consumers do."""

    def __init__(
        self, connection: KafkaConnection, members: GroupMembers, *, fetcher: Fetcher, letters: LetterTable
    ) -> None:
        self.members = members
        names, settings = Names(connection.place.name), connection.settings
        self.state = ConsumerGroupState(members, names=names, settings=settings, recounted=self._recounted)
        self._membership = GroupMembership(connection, members, self.state.take)
        self._writer = TransactionWriter(
            connection,
            f"{names.group(members.name)}-{settings.member or secrets.token_hex(8)}",
            Membership(self._membership.metadata, self._membership.holds),
        )
        self.reading = GroupReading(self.state, fetcher, letters)
        self.writing = GroupWriting(
            self.state,
            self._writer,
            reading=self.reading,
            letters=letters,
            names=names,
            settings=settings,
            load_again=self._membership.load_again,
        )
        self.replaying = GroupReplay(self.state, self.writing, self._writer, fetcher, names)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Join; partitions come later."""
        self._membership.start()

    async def close(self, *, is_abandoned: bool = False) -> None:
        """Write what was asked for and leave."""
        if not is_abandoned:
            await self._writer.close()
        await self._membership.close()

    async def assigned(self) -> None:
        """Wait until this process has partitions, and all that it has are loaded."""
        while not self.state.partitions or len(self.state.ready()) < len(self.state.partitions):
            await self.state.moved.wait()

    def expect(self, spots: Iterable[Spot]) -> None:
        """This process has written there: its consumers see it with their next question."""
        self.state.expect(spots)
        self.state.announce()

    def drop_before(self, number: int, kind: Kind, offset: int) -> None:
        """Entries were deleted from the log: what only follows does without them."""
        self.state.drop_before(number, kind, offset)

    def _recounted(self, partition: OwnedPartition, changed: Sequence[tuple[str, str]]) -> None:
        records = [self.state.progress_record(partition, *key) for key in changed]
        task = asyncio.create_task(self.writing.write(records, [partition.number]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
