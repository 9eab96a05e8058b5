"""The index of one service, from the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from collector.index.duckdb.client import FOLDER, open_index
from collector.index.protocol import Index
from collector.journal.sqlite.opening import FILE_NAME
from collector.settings import Settings


@asynccontextmanager
async def open_index_of(settings: Settings) -> AsyncIterator[Index | None]:
    """The index, if it is switched on, until the block ends; it starts beside us."""
    if not settings.index.enabled:
        yield None
        return
    folder = settings.data_dir.resolve()
    given = {
        "folder": str(folder / FOLDER),
        "journal": str(folder / FILE_NAME),
        "memory_bytes": settings.index.memory_bytes,
        "processes": settings.index.processes,
        "preview_characters": settings.index.preview_characters,
        "max_age_seconds": settings.index.max_age_seconds,
        "max_bytes": settings.index.max_bytes,
        "log_level": settings.log.level,
        "log_format": settings.log.format,
    }
    async with open_index(given) as index:
        yield index
