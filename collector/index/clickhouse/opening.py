"""Opens the index on ClickHouse. The client's package is imported only here, when it is needed."""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from collector.index.protocol import Index
from collector.journal import Consumer
from collector.model.errors import Misconfigured
from collector.settings import ClickhouseSettings, EnginePlace, IndexSettings

if TYPE_CHECKING:
    from collector.index.clickhouse.examining import ClickhouseReport

INSTALL_IT = "pip install 'sidespan[server,clickhouse]'"


@asynccontextmanager
async def open_clickhouse_index(
    place: EnginePlace, settings: ClickhouseSettings, index: IndexSettings, consumer: Consumer | None
) -> AsyncIterator[Index]:
    """The index in a database, until the block ends; `consumer` reads the log (None: another process does).

    A server that doesn't answer is asked again later. Raises Misconfigured: the package is missing, or the
    database can't be used as it is.
    """
    _check_installed(place)
    from collector.index.clickhouse.engine import open_index

    async with open_index(place, settings, index, consumer) as opened:
        yield opened


async def examine_clickhouse(place: EnginePlace, settings: ClickhouseSettings) -> "ClickhouseReport":
    """What the server says of itself. Raises Misconfigured: it can't be used as it is, or now."""
    _check_installed(place)
    from collector.index.clickhouse.examining import examine

    return await examine(place, settings)


def _check_installed(place: EnginePlace) -> None:
    if importlib.util.find_spec("clickhouse_connect") is None:
        raise Misconfigured(
            f"index.url = {place.shown!r} needs clickhouse-connect, which is not installed: {INSTALL_IT}"
        )
