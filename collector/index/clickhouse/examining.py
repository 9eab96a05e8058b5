"""What a ClickHouse server says of itself, for `sidespan doctor`; a missing database is made."""

import asyncio
from dataclasses import dataclass

from collector.index.clickhouse.preparing import stored_version
from collector.index.clickhouse.schema import SCHEMA_VERSION, Layout
from collector.index.clickhouse.server import ClickhouseServer
from collector.index.protocol import IndexAway, IndexFailure, QueryTimedOut
from collector.model.errors import Misconfigured
from collector.settings import ClickhouseSettings, EnginePlace


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickhouseReport:
    """The server's version; the schema version of its tables (None: there are none).

    `cluster_servers` are those that it knows of the configured cluster; 1 without one.
    """

    version: str
    schema_version: int | None
    cluster: str | None
    cluster_servers: int

    def __str__(self) -> str:
        tables = "no tables yet" if self.schema_version is None else f"schema version {self.schema_version}"
        cluster = f", cluster {self.cluster} of {self.cluster_servers} servers" if self.cluster else ""
        return f"ClickHouse {self.version}, {tables}{cluster}"


async def examine(place: EnginePlace, settings: ClickhouseSettings) -> ClickhouseReport:
    """Ask the server. Raises Misconfigured: it doesn't answer, refuses, or its tables can't be used."""
    try:
        report = await asyncio.to_thread(_examine, place, settings)
    except (IndexAway, IndexFailure, QueryTimedOut) as error:
        raise Misconfigured(str(error)) from error
    if report.schema_version not in (None, SCHEMA_VERSION):
        raise Misconfigured(f"{report}; this Sidespan has schema version {SCHEMA_VERSION}")
    if settings.cluster and not report.cluster_servers:
        raise Misconfigured(f"the server knows no cluster {settings.cluster!r} (clickhouse.cluster)")
    return report


def _examine(place: EnginePlace, settings: ClickhouseSettings) -> ClickhouseReport:
    server = ClickhouseServer(place, settings)
    try:
        [(version,)] = server.rows("SELECT version()", final=False)
        return ClickhouseReport(
            version=version,
            schema_version=stored_version(server, _layout(place, settings)),
            cluster=settings.cluster,
            cluster_servers=_servers(server, settings.cluster),
        )
    finally:
        server.close()


def _layout(place: EnginePlace, settings: ClickhouseSettings) -> Layout:
    return Layout(
        database=place.name,
        cluster=settings.cluster,
        replicated=settings.replicated,
        max_age_seconds=0.0,
    )


def _servers(server: ClickhouseServer, cluster: str | None) -> int:
    if cluster is None:
        return 1
    rows = server.rows("SELECT count() FROM system.clusters WHERE cluster = ?", [cluster], final=False)
    return int(rows[0][0])
