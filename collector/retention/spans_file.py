"""MLflow's SQLite file, from which whole traces are read without asking MLflow, which is four times as fast.

What is read is archived, and then deleted in MLflow. So the file is only believed while it is certain to be
the one in which MLflow deletes: it held the traces of the last deletion before it, and none of them after it.
A copy of the file, or the file of another server, never gets so far.
"""

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from collector.mirror.database import connect
from collector.mlflow.client import MAX_CONTENT_BYTES
from collector.retention.rules import SIZE_STATS, RetainedTrace
from collector.spans.stored_content import OtherForm, told

# traces in one snapshot: MLflow can't commit while one is held
AT_ONCE = 25
# SpansLocation in https://github.com/mlflow/mlflow/blob/master/mlflow/tracing/constant.py
LOCATION, HERE = "mlflow.trace.spansLocation", "TRACKING_STORE"

T = TypeVar("T")


@dataclass(slots=True)
class SpansFile:
    """The file behind one MLflow server. What it can't tell, it leaves out; nothing is raised."""

    file: Path
    # device and inode of the file in which MLflow's last deletion was seen
    _proven: tuple[int, int] | None = field(default=None)
    # the next deletion will say whose it is
    is_untried: bool = True

    @property
    def is_proven(self) -> bool:
        """Whether it is MLflow's database."""
        return self._proven is not None and self._proven == self._identity()

    def doubt(self) -> None:
        """It has to be proven anew."""
        self._proven, self.is_untried = None, True

    async def held(self, ids: Sequence[str]) -> frozenset[str]:
        """Those of these traces (tr-...) that it holds."""
        return frozenset(await self._read(lambda db: _held(db, ids)) or ())

    async def deleted(self, ids: Sequence[str], held_before: frozenset[str]) -> None:
        """MLflow has deleted these traces: whether they are gone here says whether this is its database."""
        identity = self._identity()
        after = await self._read(lambda db: _held(db, ids))
        is_theirs = after is not None and not after and held_before == frozenset(ids)
        self._proven = identity if is_theirs and ids else None
        self.is_untried = False

    async def spans(self, traces: Sequence[RetainedTrace]) -> Mapping[str, list[dict[str, Any]]]:
        """The spans of each trace as MLflow's API tells them, by id; not of those that only the API tells."""
        ours = [trace for trace in traces if _is_here(trace)]
        if not ours or not self.is_proven:
            return {}
        found = await self._read(lambda db: dict(_spans(db, ours)))
        return found if found is not None and self.is_proven else {}

    async def _read(self, read: Callable[[sqlite3.Connection], T]) -> T | None:
        """None: the file can't be read now."""

        def reading() -> T:
            with closing(connect(self.file)) as db:
                return read(db)

        try:
            return await asyncio.to_thread(reading)
        except (sqlite3.Error, OSError):
            return None

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.file)
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _is_here(trace: RetainedTrace) -> bool:
    return bool((trace.info.get("tags") or {}).get(LOCATION) == HERE)


def _held(db: sqlite3.Connection, ids: Sequence[str]) -> set[str]:
    sql = "SELECT request_id FROM trace_info WHERE request_id IN (SELECT value FROM json_each(?))"
    return {row[0] for row in db.execute(sql, [json.dumps(list(ids))]).fetchall()}


def _spans(
    db: sqlite3.Connection, traces: Sequence[RetainedTrace]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for first in range(0, len(traces), AT_ONCE):
        some = traces[first : first + AT_ONCE]
        contents = _contents(db, [trace.id for trace in some])
        for trace in some:
            spans = _told(contents.get(trace.id, ()))
            if len(spans) >= max(1, _expected(trace)):
                yield trace.id, spans


def _contents(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    """In MLflow's order; {}: they are too large to be held at once."""
    sql = (
        "SELECT trace_id, content FROM spans WHERE trace_id IN (SELECT value FROM json_each(?))"
        " ORDER BY parent_span_id IS NOT NULL, start_time_unix_nano"
    )
    found: dict[str, list[str]] = {}
    size = 0
    with closing(db.execute(sql, [json.dumps(list(ids))])) as rows:
        for trace_id, content in rows:
            size += len(content)
            if size > MAX_CONTENT_BYTES:
                return {}
            found.setdefault(trace_id, []).append(content)
    return found


def _told(contents: Sequence[str]) -> list[dict[str, Any]]:
    """[]: one of them is stored in another form, or elsewhere."""
    try:
        return [told(content) for content in contents]
    except OtherForm:
        return []


def _expected(trace: RetainedTrace) -> int:
    """How many spans MLflow waits for before it tells any; 0: it doesn't."""
    stats = (trace.info.get("trace_metadata") or {}).get(SIZE_STATS)
    try:
        return int(json.loads(stats or "{}").get("num_spans") or 0)
    except (ValueError, TypeError, AttributeError):
        return 1 << 62
