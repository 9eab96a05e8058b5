"""The copy of one experiment: how far it is, and when MLflow's counts were last the same."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from collector.mirror.span_types import TypeProof
from collector.mirror.watched import DatabaseState


@dataclass(slots=True, kw_only=True)
class Copy:
    """One experiment's. `count` are its traces here; `listed_at` is Writes.number at its last listing."""

    experiment_id: str
    count: int = 0
    total: int = 0
    ready: bool = False
    listed_at: int = -1
    counted_at: float = float("-inf")
    counted_others: int = -1
    assessments_at: float = float("-inf")
    assessments_others: int = -1
    asked_at: float = field(default_factory=time.monotonic)
    begun_at: float = field(default_factory=time.monotonic)
    # when the last listing was done, and how long it took
    finished_at: float = float("-inf")
    took_seconds: float = 0.0
    # the state of MLflow's database at which the rows were proven, and Writes.ends before;
    # DatabaseProof.ours at the last listing
    proven: DatabaseState | None = None
    proven_ends: int = 0
    checked: int = 0
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    types: TypeProof = field(default_factory=TypeProof)
    _listing: "Listing | None" = None

    def begin(self, number: int) -> None:
        """List it, from the first page."""
        self._listing, self.begun_at = Listing(number=number), time.monotonic()

    @property
    def listing(self) -> "Listing | None":
        """The listing that isn't done yet."""
        return self._listing

    def finish(self) -> None:
        """The listing is done, and what it found is held."""
        assert self._listing is not None
        self.listed_at, self.ready, self._listing = self._listing.number, True, None
        self.finished_at = time.monotonic()
        self.took_seconds = self.finished_at - self.begun_at

    def has_rested(self, times: float, *, at_least_seconds: float = 0.0) -> bool:
        """Whether the last listing is that many times as long ago as it took."""
        rest = max(times * self.took_seconds, at_least_seconds)
        return time.monotonic() - self.finished_at >= rest


@dataclass(slots=True, kw_only=True)
class Listing:
    """How far an experiment's traces are listed."""

    number: int
    token: str = ""
    is_last: bool = False
    todo: deque[str] = field(default_factory=deque)
    # ids, and milliseconds since 1970
    seen: dict[str, int] = field(default_factory=dict)
