"""The log of one service, in the form that the settings name."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.journal import Journal
from collector.journal.sqlite.journal import open_journal
from collector.journal.sqlite.lock import only_process
from collector.settings import Engine, Settings
from collector.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReaders:
    """Who reads the log: its consumers of spans and of log records, and the followers of both.

    `here` are those that this process runs; the others run elsewhere, and may be asked about.
    """

    consumers: tuple[str, ...]
    followers: tuple[str, ...]
    log_consumers: tuple[str, ...]
    log_followers: tuple[str, ...]
    here: frozenset[str]


@asynccontextmanager
async def open_journal_of(
    settings: Settings, readers: LogReaders, metrics: Metrics, *, requests: Callable[[], int]
) -> AsyncIterator[Journal]:
    """The log, until the block ends; `requests` says how many are in flight. Raises Misconfigured."""
    place = settings.log_place
    who: dict[str, Any] = {
        "consumers": readers.consumers,
        "followers": readers.followers,
        "log_consumers": readers.log_consumers,
        "log_followers": readers.log_followers,
        "keep_claims": settings.delivery.trace_memory,
        "observe_commit": metrics.commit.observe,
    }
    if place.engine is Engine.KAFKA:
        from collector.journal.kafka import open_kafka_journal  # its client is an extra

        kafka = open_kafka_journal(
            place, settings=settings.kafka, journal=settings.journal, running=readers.here, **who
        )
        async with kafka as shared:
            yield shared
        return
    assert place.folder is not None
    with _alone(settings.data_dir, beside=place.folder):
        who |= {"observe_skipped": metrics.count_skipped, "requests": requests}
        async with open_journal(place.folder, settings=settings.journal, **who) as own:
            yield own


def _alone(data_dir: Path, *, beside: Path) -> AbstractContextManager[None]:
    """The data folder for this process, where the journal, which holds its own folder, is in another."""
    return nullcontext() if data_dir.resolve() == beside.resolve() else only_process(data_dir)
