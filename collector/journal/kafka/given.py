"""What a consumer was given of a lane and has not committed. Pure.

A commit names the last entry that it passes. Of each partition exactly those are passed that were given
before it: what else waits in this process may have been put in another order meanwhile, where a partition
was taken over or read anew.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from collector.journal.kafka.records import Spot


class GivenEntry(NamedTuple):
    """An entry and its `order` then: it has another one once its partition was read anew."""

    spot: Spot
    order: int


@dataclass(slots=True)
class GivenEntries:
    """In the order in which they were given. `orders`: theirs."""

    orders: set[int] = field(default_factory=set)
    _entries: deque[GivenEntry] = field(default_factory=deque)

    def add(self, entries: Sequence[GivenEntry]) -> None:
        """These were given now."""
        self._entries.extend(entries)
        self.orders.update(order for _, order in entries)

    def cut(self, after: Spot | None) -> bool:
        """Forget what came after an entry, and all if there is none; False: that entry was not given."""
        while self._entries and self._entries[-1].spot != after:
            self.orders.discard(self._entries.pop().order)
        return after is None or bool(self._entries)

    def through(self, spot: Spot) -> list[GivenEntry] | None:
        """Up to an entry, that one too; None: it was not given."""
        for number, entry in enumerate(self._entries, 1):
            if entry.spot == spot:
                return list(islice(self._entries, number))
        return None

    def passed(self, count: int) -> None:
        """So many of the first ones were committed."""
        for _ in range(count):
            self.orders.discard(self._entries.popleft().order)
