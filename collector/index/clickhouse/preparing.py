"""Makes a database ready at the start: its tables, their version, how long rows stay. Synchronous.

Several processes may do it at once: each statement changes nothing the second time.
"""

import logging

from collector.index.clickhouse.schema import (
    SCHEMA_VERSION,
    TABLES,
    VERSION_TABLE,
    Layout,
    creation,
    migration,
    retention,
)
from collector.index.clickhouse.server import ClickhouseServer
from collector.index.protocol import IndexUnreachable
from collector.model.errors import Misconfigured

_log = logging.getLogger("sidespan.index")


def prepare(server: ClickhouseServer, layout: Layout) -> None:
    """Raises Misconfigured: this database can't be used as it is; IndexUnreachable: no host answers."""
    away: list[IndexUnreachable] = []
    for host in server.hosts:
        try:
            _prepare(server, layout, host)
        except IndexUnreachable as error:
            _log.warning("a host of the index does not answer", extra={"host": host, "reason": str(error)})
            away.append(error)
    if len(away) == len(server.hosts):
        raise away[0]
    if layout.cluster and not away:
        _check_shards(server, layout)


def _prepare(server: ClickhouseServer, layout: Layout, host: str) -> None:
    found = stored_version(server, layout, host)
    if found is None:
        if layout.cluster:
            _check_cluster(server, layout, host)
        for statement in creation(layout):
            server.command(statement, host=host)
    elif found != SCHEMA_VERSION:
        _migrate(server, layout, host, found)
    if found != SCHEMA_VERSION:
        version = f"INSERT INTO {VERSION_TABLE} (version) VALUES ({SCHEMA_VERSION})"
        server.command(version, host=host)
    _set_retention(server, layout, host)


def stored_version(server: ClickhouseServer, layout: Layout, host: str | None = None) -> int | None:
    """The version of the tables in the database; None: there are none."""
    known = server.rows(
        "SELECT name FROM system.tables WHERE database = ?", [layout.database], host=host, final=False
    )
    names = {name for (name,) in known}
    if VERSION_TABLE not in names:
        if foreign := names & {table.name for table in TABLES}:
            raise Misconfigured(
                f"the database {layout.database} holds tables that Sidespan has not made"
                f" ({', '.join(sorted(foreign))}); give index.url another database"
            )
        return None
    sql = f"SELECT max(version) FROM {VERSION_TABLE}"
    version = server.rows(sql, host=host, final=False)[0][0]
    return None if version is None else int(version)


def _migrate(server: ClickhouseServer, layout: Layout, host: str, version: int) -> None:
    steps = migration(version, layout)
    if steps is None:
        newer = "a newer" if version > SCHEMA_VERSION else "another"
        raise Misconfigured(
            f"the index in {layout.database} on {host} has schema version {version}, and this Sidespan has"
            f" {SCHEMA_VERSION}: {newer} version of Sidespan made it. Run that version, or give index.url"
            " another database and fill it with `sidespan index rebuild` and `sidespan index backfill`"
        )
    _log.info("the index is brought up to date", extra={"from": version, "to": SCHEMA_VERSION})
    for statement in steps:
        server.command(statement, host=host)


def _set_retention(server: ClickhouseServer, layout: Layout, host: str) -> None:
    rows = server.rows(
        "SELECT name, create_table_query FROM system.tables WHERE database = ?",
        [layout.database],
        host=host,
        final=False,
    )
    made: dict[str, str] = dict(rows)
    interval = f"toIntervalSecond({int(layout.max_age_seconds)})"
    for table, statement in zip([each for each in TABLES if each.leaves], retention(layout), strict=True):
        query = made.get(layout.stored(table.name), "")
        if (interval in query) if layout.ttl() else ("toIntervalSecond" not in query):
            continue
        server.command(statement, host=host)


def _check_cluster(server: ClickhouseServer, layout: Layout, host: str) -> None:
    rows = server.rows(
        "SELECT count() FROM system.clusters WHERE cluster = ?", [layout.cluster], host=host, final=False
    )
    if not rows[0][0]:
        raise Misconfigured(
            f"{host} knows no cluster {layout.cluster!r} (clickhouse.cluster): name one of its remote_servers"
        )


def _check_shards(server: ClickhouseServer, layout: Layout) -> None:
    known = server.rows(
        "SELECT count() FROM system.clusters WHERE cluster = ?", [layout.cluster], final=False
    )[0][0]
    made = server.rows(
        f"SELECT count() FROM clusterAllReplicas('{layout.cluster}', system.tables)"
        " WHERE database = ? AND name = ?",
        [layout.database, layout.stored("spans")],
        final=False,
    )[0][0]
    if made < known:
        raise Misconfigured(
            f"{known - made} of the {known} servers of the cluster {layout.cluster!r} lack the index's"
            " tables: name each of them in index.url, as clickhouse://USER@HOST1:8123,HOST2:8123/DATABASE"
        )


def size_bytes(server: ClickhouseServer, layout: Layout) -> int:
    """What the tables take on the disks."""
    source = f"cluster('{layout.cluster}', system.parts)" if layout.cluster else "system.parts"
    rows = server.rows(
        f"SELECT sum(bytes_on_disk) FROM {source} WHERE database = ? AND active",
        [layout.database],
        final=False,
    )
    return int(rows[0][0] or 0)
