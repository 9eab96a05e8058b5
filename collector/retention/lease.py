"""Who writes to the archive: a file in it that names its owner, and until when. Synchronous: for a thread.

    {"owner": "6f1c…", "where": "host7 /var/lib/sidespan", "until_unix_ns": 1790000000000000000}

It is made where there is none, which only one service can do if the store can make a file exclusively. Its
owner makes it anew before it runs out, and removes it after a run. One that has run out is anybody's. So
clocks must agree to a minute.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Protocol

FILE = "lease.json"
HELD_NS = 600 * 1_000_000_000
# it is made anew when less is left
LEAST_LEFT_NS = 400 * 1_000_000_000
# two that take one that has run out see each other after this
SETTLED_SECONDS = 2.0


class ArchiveTaken(OSError):
    """Another service writes to the archive; the message says which, and until when."""


class LeaseFiles(Protocol):
    """Small files by name. Each verb raises OSError."""

    def create(self, name: str, data: bytes) -> bool:
        """Make a file; False: it is there."""

    def replace(self, name: str, data: bytes) -> None:
        """Make a file anew, whole or not at all."""

    def size(self, name: str) -> int:
        """In bytes; 0: there is none."""

    def read(self, name: str) -> bytes:
        """All of a file."""

    def remove(self, name: str) -> None:
        """Nothing happens if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """What the file says."""

    owner: str
    where: str
    until_unix_ns: int

    def to_bytes(self) -> bytes:
        """As the file has it."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(slots=True, kw_only=True)
class Lease:
    """One service's lease of one archive. `owner` is its name across restarts, `where` tells people of it."""

    files: LeaseFiles
    owner: str
    where: str
    now_unix_ns: Callable[[], int] = time.time_ns
    sleep: Callable[[float], None] = time.sleep
    _until_unix_ns: int = field(default=0)

    def take(self) -> None:
        """Have it for some minutes. Raises ArchiveTaken, OSError."""
        now = self.now_unix_ns()
        if self._until_unix_ns - now > LEAST_LEFT_NS:
            return
        record = LeaseRecord(owner=self.owner, where=self.where, until_unix_ns=now + HELD_NS)
        if not self.files.create(FILE, record.to_bytes()):
            before = self._found()
            if before is not None and before.owner != self.owner and before.until_unix_ns > now:
                raise _taken(before)
            self.files.replace(FILE, record.to_bytes())
            if before is None or before.owner != self.owner:
                self.sleep(SETTLED_SECONDS)
            if (after := self._found()) != record:
                raise _taken(after)
        self._until_unix_ns = record.until_unix_ns

    def check(self) -> None:
        """Raises ArchiveTaken: it ran out meanwhile, and another service may have written too; OSError.

        The file is read, for by another service's clock it may have run out before.
        """
        found = self._found()
        if self._until_unix_ns <= self.now_unix_ns() or found is None or found.owner != self.owner:
            self._until_unix_ns = 0
            raise _taken(found)

    def leave(self) -> None:
        """Let others write. Raises OSError."""
        if self._until_unix_ns and (found := self._found()) is not None and found.owner == self.owner:
            self.files.remove(FILE)
        self._until_unix_ns = 0

    def _found(self) -> LeaseRecord | None:
        """What the file says; None: there is none, or it can't be read."""
        try:
            return LeaseRecord(**json.loads(self.files.read(FILE))) if self.files.size(FILE) else None
        except (ValueError, TypeError, FileNotFoundError):
            return None


def _taken(by: LeaseRecord | None) -> ArchiveTaken:
    if by is None:
        return ArchiveTaken(f"the lease of the archive ({FILE}) was lost meanwhile")
    until = datetime.fromtimestamp(by.until_unix_ns / 1e9, UTC).isoformat(timespec="seconds")
    return ArchiveTaken(f"another service writes to the archive: {by.where}, until {until} ({FILE})")
