"""What the rows of whole days come to, kept for questions that come again. Synchronous.

    parts of each day -> days that are the same as before: kept rows;  all other days: asked -> together

A day is known by what is in its parts, so whatever is written to it makes it another day. The rows are in
the table `daily_numbers`; which of them belong to what is known to the process that put them there, and to no
other. An answer counts the rows that it was made of: if one is missing, all days are asked.
"""

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.index.clickhouse.daily import DailyNumbers, among_days, daily
from collector.index.clickhouse.schema import (
    DAILY,
    DAILY_KEPT_SECONDS,
    DAILY_NUMBERS,
    DAY,
    LOCAL,
    Layout,
)
from collector.index.clickhouse.server import ClickhouseServer, Rows
from collector.index.protocol import BatchRefused, IndexFailure, QueryTimedOut
from collector.index.sql.stats import Numbers
from collector.index.sql.where import Query

_log = logging.getLogger("sidespan.index")

# fewer rows are asked at once in less time than day by day
WORTH_ROWS = 200_000
# a day that was written to so lately will be written to again
QUIET_SECONDS = 60
# the table isn't added to beyond it
MOST_BYTES = 1024**3
# so many rows are asked at once for what is kept of them
MADE_ROWS = 20_000_000
MOST_KNOWN = 20_000
# of a day without rows
ALL_TIMES = (0, 2**63)
REFUSED_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDay:
    """A day of a table. `parts` stands for what its parts hold; `is_quiet`: nothing was written lately."""

    day: str
    parts: int
    rows: int
    is_quiet: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDay:
    """Where the rows of a day are kept, and how many they are."""

    kept: int
    day: str
    rows: int
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDays:
    """The days of each table; `other` stands for all else that answers depend on."""

    tables: Mapping[str, Sequence[StoredDay]]
    other: int
    has_room: bool


class KeptNumbers:
    """Knows what is kept, for one process."""

    def __init__(self, server: ClickhouseServer, layout: Layout) -> None:
        self.server = server
        self._layout = layout
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._refused_until = 0.0

    def now(self) -> "NumbersNow":
        """For questions that are asked together."""
        return NumbersNow(self)

    def known(self, key: tuple[Any, ...]) -> Any:
        """What was noted under a key."""
        with self._lock:
            return self._known.get(key)

    def note(self, key: tuple[Any, ...], value: Any) -> None:
        """Note something; what was noted first is forgotten in time."""
        with self._lock:
            self._known[key] = value
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)

    def forget(self) -> None:
        """Forget all that was noted."""
        with self._lock:
            self._known.clear()

    def refused(self, error: Exception) -> None:
        """The server doesn't let us keep anything, or is too slow; it is tried again later."""
        self._refused_until = time.monotonic() + REFUSED_SECONDS
        _log.warning(
            "numbers of days aren't kept: each overview reads all rows", extra={"reason": str(error)}
        )

    def days(self) -> StoredDays | None:
        """What there is now; None: nothing can be kept."""
        # the copy that is asked may be behind the one whose parts were listed
        if self._layout.replicated or time.monotonic() < self._refused_until:
            return None
        other = self.server.rows(
            "SELECT sum(cityHash64(number, ifNull(id, ''), ifNull(name, ''))) FROM experiments"
        )
        tables: dict[str, list[StoredDay]] = {"traces": [], "spans": [], DAILY_NUMBERS: []}
        size = 0
        for table, day, parts, rows, is_quiet, size_bytes in self._partitions():
            name = table.removesuffix(LOCAL)
            tables[name].append(StoredDay(day=day, parts=parts, rows=rows, is_quiet=bool(is_quiet)))
            size += size_bytes if name == DAILY_NUMBERS else 0
        return StoredDays(tables=tables, other=other[0][0] or 0, has_room=size < MOST_BYTES)

    def _partitions(self) -> Rows:
        cluster = self._layout.cluster
        source = f"cluster('{cluster}', system.parts)" if cluster else "system.parts"
        stored = [self._layout.stored(name) for name in ("traces", "spans", DAILY_NUMBERS)]
        return self.server.rows(
            "SELECT table, partition, sum(cityHash64(name, hash_of_all_files)), sum(rows),"
            f" max(modification_time) <= now() - {QUIET_SECONDS}, sum(bytes_on_disk) FROM {source}"
            " WHERE database = ? AND active AND has(?, table) GROUP BY table, partition ORDER BY partition",
            [self._layout.database, stored],
            final=False,
        )


class NumbersNow:
    """Answers with what is kept of the days as they were when it was first asked."""

    def __init__(self, kept: KeptNumbers) -> None:
        self._kept = kept
        self._server = kept.server
        self._lock = threading.Lock()
        self._found: StoredDays | None = None

    def rows(self, numbers: Numbers) -> Rows | None:
        """The rows of `numbers`; None: they can't be put together of days, or it isn't worth it."""
        asked = daily(numbers)
        try:
            return None if asked is None else self._rows(asked)
        except (IndexFailure, BatchRefused, QueryTimedOut) as error:
            self._kept.refused(error)
            return None

    def _rows(self, asked: DailyNumbers) -> Rows | None:
        days = self._days()
        if days is None:
            return None
        stored = days.tables[asked.table]
        if sum(each.rows for each in stored if each.is_quiet) < WORTH_ROWS:
            return None
        inside, outside = self._within(asked, stored)
        if sum(each.rows for each in inside) < WORTH_ROWS:
            return None
        kept = self._kept_days(asked, inside, days)
        known = {each.day for each in kept} | {each.day for each in outside}
        return self._together(asked, kept, [each.day for each in stored if each.day not in known])

    def _days(self) -> StoredDays | None:
        with self._lock:
            if self._found is None:
                self._found = self._kept.days()
            return self._found

    def _within(
        self, asked: DailyNumbers, stored: Sequence[StoredDay]
    ) -> tuple[Sequence[StoredDay], Sequence[StoredDay]]:
        """The days that lie wholly within the bounds of time, and those without; only of quiet ones."""
        selection = asked.numbers.asks.selection
        since, until = selection.since_unix_ns, selection.until_unix_ns
        quiet = [each for each in stored if each.is_quiet]
        if since is None and until is None:
            return quiet, ()
        inside, outside = [], []
        for each, (first, last) in zip(quiet, self._extents(asked.table, quiet), strict=True):
            if (since is None or first >= since) and (until is None or last < until):
                inside.append(each)
            elif (since is not None and last < since) or (until is not None and first >= until):
                outside.append(each)
        return inside, outside

    def _extents(self, table: str, quiet: Sequence[StoredDay]) -> Sequence[tuple[int, int]]:
        """The first and the last start of each day."""
        keys = {each.day: ("extent", table, each.day, each.parts) for each in quiet}
        known = {day: self._kept.known(key) for day, key in keys.items()}
        if missing := [day for day, extent in known.items() if extent is None]:
            found = self._server.rows(
                f"SELECT toString({DAY}) AS day, min(start_unix_ns), max(start_unix_ns) FROM {table}"
                f" WHERE {among_days(missing)} AND is_deleted = 0 GROUP BY day",
                final=False,
            )
            known |= {day: (first, last) for day, first, last in found}
            for day in missing:
                self._kept.note(keys[day], known[day])
        return [known[each.day] or ALL_TIMES for each in quiet]

    def _kept_days(
        self, asked: DailyNumbers, inside: Sequence[StoredDay], days: StoredDays
    ) -> Sequence[KeptDay]:
        """Those of these days of which the numbers are kept, or can be now."""
        sql, values = asked.of_days((), whole=True)
        keys = {each.day: (sql, repr(values), days.other, each.day, each.parts) for each in inside}
        missing = [each for each in inside if not _lasts(self._kept.known(keys[each.day]))]
        if days.has_room:
            for together in _in_shares(missing):
                for made in self._keep(asked, together):
                    self._kept.note(keys[made.day], made)
        found = [self._kept.known(keys[each.day]) for each in inside]
        return [each for each in found if _lasts(each)]

    def _keep(self, asked: DailyNumbers, days: Sequence[StoredDay]) -> Sequence[KeptDay]:
        kept, names = secrets.randbits(63), ", ".join(DAILY)
        sql, values = asked.of_days([each.day for each in days], whole=True)
        into = f"INSERT INTO {DAILY_NUMBERS} (kept, {names})"
        self._server.keep(f"{into} SELECT {kept} AS kept, {names} FROM ({sql})", values)
        until = time.monotonic() + DAILY_KEPT_SECONDS
        counted = f"SELECT toString(day), count() FROM {DAILY_NUMBERS} WHERE kept = {kept} GROUP BY day"
        rows: dict[str, int] = dict(self._server.rows(counted, final=False))
        return [KeptDay(kept=kept, day=each.day, rows=rows.get(each.day, 0), until=until) for each in days]

    def _together(self, asked: DailyNumbers, kept: Sequence[KeptDay], other: Sequence[str]) -> Rows | None:
        if not kept:
            return None
        sql, values = _union(asked, kept, other)
        counted = f"(SELECT count() FROM {DAILY_NUMBERS} WHERE {_among(kept)}) AS counted"
        rows = self._server.rows(asked.together(sql, counted), values)
        expected = sum(each.rows for each in kept)
        if {row[-1] for row in rows} != {expected} and (rows or expected):
            self._kept.forget()
            return None
        return [row[:-1] for row in rows]


def _union(asked: DailyNumbers, kept: Sequence[KeptDay], other: Sequence[str]) -> Query:
    """Rows of DAILY: those that are kept, and those of other days."""
    sql = f"SELECT {', '.join(DAILY)} FROM {DAILY_NUMBERS} WHERE {_among(kept)}"
    if not other:
        return sql, []
    now, values = asked.of_days(other, whole=False)
    return f"{sql} UNION ALL {now}", values


def _among(kept: Sequence[KeptDay]) -> str:
    days: dict[int, list[str]] = {}
    for each in kept:
        days.setdefault(each.kept, []).append(f"'{each.day}'")
    either = " OR ".join(f"kept = {number} AND day IN ({', '.join(of)})" for number, of in days.items())
    return f"({either})"


def _lasts(kept: KeptDay | None) -> bool:
    return kept is not None and kept.until > time.monotonic()


def _in_shares(days: Sequence[StoredDay]) -> Iterator[Sequence[StoredDay]]:
    """Days in order, as many at once as have MADE_ROWS together."""
    share: list[StoredDay] = []
    for each in days:
        if share and sum(one.rows for one in share) + each.rows > MADE_ROWS:
            yield share
            share = []
        share.append(each)
    if share:
        yield share
