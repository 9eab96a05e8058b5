"""Which traces the log has changed, for those who follow them: noted by any indexer, told by any replica.

    changes   position | number | experiment | trace id | when it was first seen | ids of its new spans

A batch adds a row for each of its traces once their rows are there. A position is the server's time at which
the row was sent, so positions of all indexers are in one order, but the row with the lower one may be there
later. So only what is older than SETTLED_NS is told, and a row that took longer than NOTED_WITHIN_SECONDS to
arrive, which some reader may have passed, is noted once more. What is left of SETTLED_NS is how far the
servers' clocks may differ. Synchronous.
"""

import logging
import time
from collections.abc import Iterable

from collector.index.clickhouse.dialect import CLICKHOUSE
from collector.index.clickhouse.lookups import ClickhouseTables
from collector.index.clickhouse.schema import CHANGES_SINCE_VERSION, VERSION_TABLE
from collector.index.clickhouse.server import ClickhouseServer
from collector.index.protocol import Changes, ChangesQuery
from collector.index.rows.gathered import TraceKey
from collector.index.sql.changes import ChangeBounds, ChangeTables, changes_between, wheres_of
from collector.index.sql.where import Values

_log = logging.getLogger("sidespan.index")

SETTLED_NS = 10**9
NOTED_WITHIN_SECONDS = 0.5
NOTED_AT_MOST = 3
# what was noted is told for so long; the table keeps it longer (schema.py)
KEPT_NS = 15 * 60 * 10**9
CHANGE_NAMES = ("number", "experiment", "trace_id", "seen_unix_ns", "spans")


def _keys(traces: Iterable[TraceKey]) -> Values:
    listed = list(traces)
    return [[str(experiment) for experiment, _ in listed], [str(int(trace_id, 16)) for _, trace_id in listed]]


_BETWEEN = "FROM changes WHERE position > {after} AND position <= {until}"
_WANTED = "(SELECT toInt64(each.1), toUInt128(each.2) FROM (SELECT arrayJoin(arrayZip(?, ?)) AS each))"
_NOTED = ChangeTables(
    # partitions outside of these days aren't looked at
    live=(
        "SELECT t.*, c.position AS position FROM traces t JOIN (SELECT experiment, trace_id,"
        f" max(position) AS position {_BETWEEN} GROUP BY experiment, trace_id) c"
        " ON c.trace_id = t.trace_id AND c.experiment = t.experiment"
        f" WHERE t.seen_unix_ns BETWEEN (SELECT min(seen_unix_ns) {_BETWEEN})"
        f" AND (SELECT max(seen_unix_ns) {_BETWEEN})"
        f" AND (t.experiment, t.trace_id) IN (SELECT experiment, trace_id {_BETWEEN})"
    ),
    page=f"page AS (SELECT * FROM traces WHERE (experiment, trace_id) IN {_WANTED})",
    fresh=(
        f"fresh AS (SELECT experiment, trace_id, arrayJoin(spans) AS span_id {_BETWEEN}"
        " AND (experiment, trace_id) IN (SELECT experiment, trace_id FROM page))"
        " SELECT {columns} FROM spans s"
        " WHERE (s.experiment, s.trace_id, s.span_id) IN (SELECT experiment, trace_id, span_id FROM fresh)"
        " AND s.seen_unix_ns BETWEEN (SELECT min(seen_unix_ns) FROM page)"
        " AND (SELECT max(seen_unix_ns) FROM page)"
    ),
    keys=_keys,
)


def note(server: ClickhouseServer, rows: bytes, *, token: str | None) -> None:
    """Add rows of CHANGE_NAMES but the first, as CSV; those that come again under `token` are passed over."""
    numbered = b"".join(b"%d,%b\r\n" % each for each in enumerate(rows.splitlines()))
    for number in range(NOTED_AT_MOST):
        began = time.monotonic()
        told = None if token is None else f"{token}-changes-{number}"
        server.insert("changes", CHANGE_NAMES, numbered, token=told)
        if time.monotonic() - began <= NOTED_WITHIN_SECONDS:
            return
    _log.debug("the server is slow: who follows traces may miss some of this batch")


def move(server: ClickhouseServer, *, of: int, to: int) -> None:
    """What was noted of one experiment is another's; before its traces are."""
    server.command(
        "INSERT INTO changes (position, number, experiment, trace_id, seen_unix_ns, spans)"
        " SELECT position, number, ? AS experiment, trace_id, seen_unix_ns, spans FROM changes"
        " WHERE changes.experiment = ?",
        values=[to, of],
    )


def changed(server: ClickhouseServer, query: ChangesQuery, *, now_unix_ns: int) -> Changes:
    """What changed. Raises BadParameter, QueryTimedOut."""
    wheres = wheres_of(query, CLICKHOUSE, now_unix_ns=now_unix_ns)
    return changes_between(ClickhouseTables(server), _NOTED, query, wheres, _bounds(server, query.after or 0))


def _bounds(server: ClickhouseServer, after: int) -> ChangeBounds:
    """How far it is known what changed. Where nothing did for long, both go on with the time.

    `after` is how far another server may have told it, whose clock is a little ahead.
    """
    newest = "(SELECT position FROM changes WHERE position <= {} ORDER BY position DESC LIMIT 1)"
    now = "toUnixTimestamp64Nano(now64(9))"
    [(now_ns, made_seconds, newest_ns, passed_ns)] = server.rows(
        f"SELECT {now}, (SELECT toUnixTimestamp(min(made)) FROM {VERSION_TABLE} WHERE version >= ?),"
        f" {newest.format(f'{now} - ?')}, {newest.format(f'{now} - ?')}",
        [CHANGES_SINCE_VERSION, SETTLED_NS, KEPT_NS],
    )
    made_ns = (made_seconds or 0) * 10**9
    # whatever is newer than this is there
    known_ns = now_ns - 2 * KEPT_NS if passed_ns is None else passed_ns
    told_ns = after if after <= now_ns else 0
    newest_ns = max(made_ns, newest_ns or 0, told_ns, now_ns - KEPT_NS)
    return ChangeBounds(oldest=max(made_ns, known_ns), newest=newest_ns)
