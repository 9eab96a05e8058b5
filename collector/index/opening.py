"""The index of one service, in the form that the settings name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from collector.index.clickhouse import open_clickhouse_index
from collector.index.duckdb.client import open_index
from collector.index.protocol import Index
from collector.journal import Consumer
from collector.journal.sqlite.opening import FILE_NAME
from collector.settings import Engine, EnginePlace, Role, Settings


@asynccontextmanager
async def open_index_of(settings: Settings, consumer: Consumer) -> AsyncIterator[Index | None]:
    """The index, if it is switched on, until the block ends; it starts beside us. Raises Misconfigured.

    `consumer` is what fills it.
    """
    place = settings.index_place
    if place is None:
        yield None
    elif place.engine is Engine.CLICKHOUSE:
        feeds = consumer if Role.INDEX in settings.roles else None
        async with open_clickhouse_index(place, settings.clickhouse, settings.index, feeds) as index:
            yield index
    else:
        async with open_index(_duckdb(settings, place)) as index:
            yield index


def _duckdb(settings: Settings, place: EnginePlace) -> dict[str, object]:
    return {
        "folder": str(_folder(place)),
        "journal": str(_folder(settings.log_place) / FILE_NAME),
        "memory_bytes": settings.index.memory_bytes,
        "processes": settings.index.processes,
        "preview_characters": settings.index.preview_characters,
        "max_age_seconds": settings.index.max_age_seconds,
        "max_bytes": settings.index.max_bytes,
        "log_level": settings.log.level,
        "log_format": settings.log.format,
    }


def _folder(place: EnginePlace) -> Path:
    assert place.folder is not None
    return place.folder.resolve()
