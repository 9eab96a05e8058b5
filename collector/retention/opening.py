"""Retention, from the settings."""

import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.delivery.opening import Carriers
from collector.index.protocol import Index
from collector.journal import Journal, Log
from collector.mlflow.client import Mlflow
from collector.mlflow.rest import DELETE_TRACES
from collector.model.errors import Misconfigured
from collector.retention.archive import Archive, open_archive_of
from collector.retention.catalogue import FILE_NAME, open_catalogue
from collector.retention.cleaner import Cleaner, Deletion
from collector.retention.cleanup import Cleanup
from collector.retention.completing import Completion
from collector.retention.frames import ArchiveDamaged
from collector.retention.keeper import Keeper
from collector.retention.marks import Marks
from collector.retention.restore import LateSpans, Restorer
from collector.retention.source import TraceStore
from collector.retention.spans_file import SpansFile
from collector.retention.store import open_files
from collector.settings import Settings
from collector.telemetry.metrics import Metrics
from collector.telemetry.supervision import RestartPause, supervised
from proxy.logs import Line, WritesRequests

_log = logging.getLogger("sidespan.retention")

ARCHIVE_FOLDER = "archive"
RESTART_PAUSE = RestartPause(first_seconds=1.0, max_seconds=30.0)


@asynccontextmanager
async def open_archive(settings: Settings) -> AsyncIterator[Archive | None]:
    """The archive, until the block ends; None: there are no rules, and never were.

    Raises Misconfigured: it or its catalogue may not be read, or its settings are wrong.
    """
    files = open_files(settings.cleanup.archive_url, settings.data_dir / ARCHIVE_FOLDER)
    is_there = (settings.data_dir / FILE_NAME).exists() or (settings.data_dir / ARCHIVE_FOLDER).exists()
    if not (settings.retention or is_there or settings.cleanup.archive_url):
        yield None
        return
    if not settings.log_place.engine.is_embedded:  # other replicas would deliver spans of archived traces
        raise Misconfigured(
            f"{settings.data_dir} says what is archived, and with {settings.log_place.engine.product} as "
            "the journal no process can act on that: restore what you need with the embedded journal, then "
            f"remove {FILE_NAME}* and {ARCHIVE_FOLDER}/ from there (docs/retention.md)"
        )
    with closing(open_catalogue(settings.data_dir)) as catalogue:
        where = f"{socket.gethostname()} {settings.data_dir.absolute()}"
        archive = open_archive_of(files, catalogue, where=where)
        try:
            archive.catch_up()
        except PermissionError as error:
            raise Misconfigured(f"the archive at {files.url} can't be read: {error}") from error
        except (OSError, ArchiveDamaged) as error:  # taking spans must not hang on it; a run waits for it
            _log.warning("the archive can't be read yet", extra={"url": files.url, "reason": str(error)})
        yield archive


def late_spans(settings: Settings, archive: Archive, log: Log, index: Index | None) -> LateSpans:
    """What delivery asks about the traces of a window."""
    return LateSpans(
        gone=archive.catalogue.gone,
        restore=_restorer(archive, log, index).restore,
        policy=settings.cleanup.late_spans,
    )


@asynccontextmanager
async def open_keeper(
    settings: Settings,
    archive: Archive | None,
    journal: Journal,
    mlflow: Mlflow,
    index: Index | None,
    carriers: Carriers | None,
    requests: WritesRequests,
    metrics: Metrics,
) -> AsyncIterator[Keeper | None]:
    """Retention at work, until the block ends; None: there is no archive. `requests` is the audit log."""
    if archive is None or carriers is None:
        yield None
        return

    def tell(deletion: Deletion) -> None:
        requests.write(_line(deletion))
        if not deletion.is_sure:
            return
        labels = {"rule": deletion.rule, "action": deletion.action}
        metrics.retention_traces.labels(**labels).inc(len(deletion.trace_ids))

    file = settings.mlflow.database_file
    store = TraceStore(
        mlflow=mlflow,
        share=settings.cleanup.mlflow_share,
        file=None if file is None else SpansFile(file),
    )
    waiting = [journal.consumer(name) for name in (DELIVERY, LOGS)]
    cleaner = Cleaner(
        store=store,
        archive=archive,
        marks=Marks(index=index),
        turns=carriers.joins.turns,
        waiting=waiting,
        settings=settings.cleanup,
        tell=tell,
        now_unix_ns=time.time_ns,
    )
    keeper = Keeper(
        cleanup=Cleanup(rules=settings.retention, cleaner=cleaner, now_unix_ns=time.time_ns),
        restorer=_restorer(archive, journal.log, index),
        completion=Completion(archive=archive, store=store, waiting=waiting),
        archive=archive,
        every_seconds=settings.cleanup.every_seconds if settings.retention else None,
    )
    async with (
        supervised("retention", keeper.run, pause=RESTART_PAUSE),
        supervised("restored traces", keeper.complete, pause=RESTART_PAUSE),
    ):
        yield keeper


def _restorer(archive: Archive, log: Log, index: Index | None) -> Restorer:
    return Restorer(archive=archive, log=log, marks=Marks(index=index), now_unix_ns=time.time_ns)


def _line(deletion: Deletion) -> Line:
    """As the audit log has it."""
    return Line(
        client="sidespan",
        source="retention",
        peer="",
        method="POST",
        path=DELETE_TRACES,
        resource="traces",
        action="delete",
        experiments=(deletion.experiment_id,),
        decision="allowed" if deletion.is_sure else "failed",
        rule=f"retention: {deletion.rule}",
        status=200 if deletion.is_sure else 502,
        request_bytes=0,
        answer_bytes=0,
        seconds=deletion.seconds,
        message=f"{deletion.action}: {' '.join(deletion.trace_ids)}",
    )
