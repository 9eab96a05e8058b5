"""MLflow's SQLite file: whether it has changed, whoever has changed it, and what it counts.

`PRAGMA data_version` differs after each commit of another connection, and costs microseconds. So a copy that
was right at one state of the file is right until the state differs.

Source: https://sqlite.org/pragma.html#pragma_data_version.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from collector.mirror.database import DatabaseAway, connect

# less than a question waits; MLflow's commits take milliseconds
BUSY_SECONDS = 0.5
PAGE = 5000

T = TypeVar("T")
Row = tuple[Any, ...]
# ids of traces (tr-…), and their milliseconds since 1970
TracePage = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseState:
    """Two that are equal say: nothing was committed between. `opened` counts files and connections."""

    opened: int
    version: int


class WatchedDatabase:
    """The file, held open. Its methods raise DatabaseAway."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._opened = 0
        # one at a time: a call that is given up goes on
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mirror-watch")

    async def look(self) -> DatabaseState:
        """The state at a moment during this call."""
        return await self._call(self._look)

    def _look(self) -> DatabaseState:
        [(version,)] = self._fetch("PRAGMA data_version", ())
        return DatabaseState(opened=self._opened, version=version)

    async def experiment(self, experiment_id: str) -> Row | None:
        """When an experiment was created and where its artifacts are, which no other one shares."""
        sql = "SELECT creation_time, artifact_location FROM experiments WHERE experiment_id = ?"
        return next(iter(await self._rows(sql, int(experiment_id))), None)

    async def count(self, experiment_id: str) -> int:
        """How many traces an experiment has."""
        sql = "SELECT count(*) FROM trace_info WHERE experiment_id = ?"
        [(count,)] = await self._rows(sql, int(experiment_id))
        return int(count)

    async def count_assessments(self, experiment_id: str) -> int:
        """How many of its assessments MLflow counts."""
        sql = "SELECT count(*) FROM assessments WHERE experiment_id = ? AND valid = 1"
        [(count,)] = await self._rows(sql, int(experiment_id))
        return int(count)

    async def page(self, experiment_id: str, after: str) -> tuple[TracePage, str]:
        """Traces of an experiment, the oldest first, and what the next page comes after; "": none."""
        last = [int(each) for each in after.split(":")] if after else [-(2**63), 0]
        rows = await self._rows(
            "SELECT request_id, timestamp_ms, rowid FROM trace_info WHERE experiment_id = ?"
            " AND (timestamp_ms, rowid) > (?, ?) ORDER BY timestamp_ms, rowid LIMIT ?",
            *(int(experiment_id), *last, PAGE),
        )
        token = f"{rows[-1][1]}:{rows[-1][2]}" if len(rows) == PAGE else ""
        return {row[0]: row[1] for row in rows}, token

    async def _rows(self, sql: str, *values: Any) -> list[Row]:
        return await self._call(partial(self._fetch, sql, values))

    async def _call(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except (sqlite3.Error, OSError) as error:
            raise DatabaseAway(f"{str(self.file)!r} can't be read: {error}") from error

    def _fetch(self, sql: str, values: Sequence[Any]) -> list[Row]:
        # all rows: as long as there may be another one, the file is locked
        return self._connection().execute(sql, values).fetchall()

    def _connection(self) -> sqlite3.Connection:
        found = os.stat(self.file)
        if self._db is None or self._identity != (found.st_dev, found.st_ino):
            if self._db is not None:
                self._db.close()
            self._db = connect(self.file, busy_seconds=BUSY_SECONDS)
            self._identity, self._opened = (found.st_dev, found.st_ino), self._opened + 1
        return self._db

    def close(self) -> None:
        """Let go of the file, until it is asked again."""
        self._thread.submit(self._close)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None
