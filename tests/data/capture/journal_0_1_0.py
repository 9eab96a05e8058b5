"""A data folder as version 0.1.0 leaves it when it is killed: `python journal_0_1_0.py FOLDER OUT`.

Run with the tree of version 0.1.0 on PYTHONPATH. There are two lanes. In the first, one entry is passed, with
a note and two dead letters, one of which is retried; another was cut short by a kill before, and the second
kill finds it marked again. Each file of FOLDER goes into OUT, compressed.
"""

import asyncio
import gzip
import os
import signal
import sys
from pathlib import Path

from collector.batch import Draft, Parked, Route
from collector.journal.writer import SqliteJournal, open_journal

from collector.settings import JournalSettings

ONE, TWO = Route(experiment_id="1").lane, Route(experiment_name="two", run_id="r").lane
A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


def draft(payload: bytes, trace_id: bytes, lane: str = ONE) -> Draft:
    return Draft(lane=lane, payload=payload, span_count=1, trace_ids=frozenset({trace_id}), client="team")


def parked(payload: bytes) -> Parked:
    return Parked(
        lane=ONE,
        payload=payload,
        span_count=2,
        trace_ids=frozenset({B}),
        reason="poison",
        message="MLflow answered 500",
        received_unix_ns=7,
        client="team",
    )


async def fill(journal: SqliteJournal) -> None:
    for content in (draft(b"done", A), draft(b"waits", B), draft(b"theirs", C, TWO), draft(b"behind", B)):
        await journal.append([content])
    await journal.begin("delivery", ONE, through=1, claims={A: "/1", B: "/1"})
    letters = [parked(b"bad"), parked(b"again")]
    await journal.commit("delivery", ONE, through=1, parked=letters, remember={A: b"note"})
    await journal.retry([2])
    await journal.begin("delivery", ONE, through=2, claims={})
    os.kill(os.getpid(), signal.SIGKILL)


async def crash_again(journal: SqliteJournal) -> None:
    await journal.begin("delivery", ONE, through=2, claims={})
    await journal.commit("index", TWO, through=3)
    os.kill(os.getpid(), signal.SIGKILL)


async def main(folder: Path, step: int) -> None:
    settings = JournalSettings(min_free_disk_bytes=0, retention_seconds=3600)
    consumers = ("delivery",)
    async with open_journal(folder, settings=settings, consumers=consumers, keep_claims=9) as journal:
        await (fill, crash_again)[step](journal)


if __name__ == "__main__":
    for step in (0, 1):
        if not (child := os.fork()):
            asyncio.run(main(Path(sys.argv[1]), step))
        os.waitpid(child, 0)
    for file in Path(sys.argv[1]).glob("journal.sqlite3*"):
        if not file.name.endswith("-shm"):
            out = Path(sys.argv[2]) / f"{file.name}.gz"
            out.write_bytes(gzip.compress(file.read_bytes(), mtime=0))
