"""The index's verbs over the store: one thread that changes it, a few that read.

take, put, label, name, forget    in the one thread that changes the store; modest, for it works while
                                  clients don't need the processor
ask, trace, owners, state, labels in a thread of their own, with a connection of their own
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb
from starlette.concurrency import iterate_in_threadpool

from collector.index.duckdb import lookups
from collector.index.duckdb.changes import changed
from collector.index.duckdb.lookups import DuckdbTables
from collector.index.duckdb.mirror import MirrorStore, remove_mirror
from collector.index.duckdb.shard import write_rows
from collector.index.duckdb.store import EXPORTS, Store, open_store
from collector.index.duckdb.take import Taker
from collector.index.protocol import (
    NOTHING_DELIVERED,
    BatchRefused,
    Changes,
    ChangesQuery,
    Delivered,
    FileAnswer,
    IndexedBatch,
    IndexQuery,
    IndexState,
    JsonAnswer,
    Lane,
    QueryTimedOut,
    StoredTraces,
    TraceQuery,
    experiment_ids,
)
from collector.index.queries.asked import Asked
from collector.index.rows.crew import stand_back
from collector.index.rows.documents import read_document
from collector.index.rows.gathered import Gathered, TraceKey, with_put
from collector.index.rows.one_trace import summary_of
from collector.index.sql import answers
from collector.index.sql.answers import Export
from collector.journal.sqlite.reader import JournalUnreadable
from collector.mirror.database import DatabaseAway
from collector.mirror.question import MetricQuestion
from collector.mirror.search import SearchQuestion
from collector.model.experiment import ExperimentReference
from collector.spans.labels import TraceLabels
from collector.spans.mlflow_trace import read_labelled, read_traces
from collector.telemetry.fault_log import FaultLog

_log = logging.getLogger("sidespan.index")

T = TypeVar("T")
Db = duckdb.DuckDBPyConnection
READERS = 3
QUERY_SECONDS = 60.0
MIRROR_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What the engine needs to know. Ages and sizes are where the oldest traces leave."""

    folder: Path
    journal: Path
    memory_bytes: int
    processes: int
    preview_characters: int
    max_age_seconds: float
    max_bytes: int


class DuckdbIndex:
    """The index in this process: an Index, opened by `open_engine`."""

    trouble: str | None = None
    starting = False

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._fault_log = FaultLog()
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="index-write", initializer=stand_back)
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="index-read")
        self._copying = ThreadPoolExecutor(1, thread_name_prefix="mirror-write", initializer=stand_back)
        self._mirror: MirrorStore | None = None

    async def ready(self) -> None:
        """It is."""

    async def take(self, lanes: Sequence[Lane], *, limit_spans: int) -> IndexedBatch:
        """As in the protocol; where the disk, the memory or a file fails, what failed is raised."""
        try:
            return await self._write(partial(self._take, lanes, limit_spans))
        except Exception as error:
            if not is_about_the_data(error):
                raise
            _log.exception("the rows of a batch can't be stored; smaller ones are tried")
            raise BatchRefused(type(error).__name__) from error

    def _take(self, lanes: Sequence[Lane], limit_spans: int) -> IndexedBatch:
        self._taker.follow()
        batch = self._taker.take(lanes, limit_spans=limit_spans)
        return replace(batch, unnamed=self._store.unnamed())

    async def ask(self, query: IndexQuery) -> JsonAnswer | FileAnswer | None:
        """As in the protocol."""
        asked = Asked(
            parameters=query.parameters, now_unix_ns=time.time_ns(), experiments=query.experiment_ids
        )
        exports = self._settings.folder / EXPORTS
        answer = await self._read(lambda db: answers.answer(DuckdbTables(db), query, asked, exports))
        if isinstance(answer, Export):
            chunks = iterate_in_threadpool(answer.chunks())
            return FileAnswer(media_type=answer.media_type, name=answer.name, chunks=chunks)
        return None if answer is None else JsonAnswer(body=answers.encoded(answer))

    async def trace(self, query: TraceQuery) -> bytes | None:
        """As in the protocol."""
        return await self._read(partial(self._summary, query))

    def _summary(self, query: TraceQuery, db: Db) -> bytes | None:
        found = lookups.find_trace(db, query.trace_id, query.experiment_ids)
        scores = lookups.scores(db, query.trace_id, query.experiment_ids)
        return summary_of(found, query, scores, preview_characters=self._settings.preview_characters)

    async def owners(self, trace_id: str) -> frozenset[str]:
        """As in the protocol."""
        return await self._read(lambda db: lookups.owners(db, trace_id))

    async def experiments(self) -> Sequence[str]:
        """As in the protocol."""
        return experiment_ids(await self.state())

    async def state(self) -> IndexState:
        """As in the protocol."""
        experiments = await self._read(lookups.experiment_counts)
        return IndexState(
            traces=sum(experiment.traces for experiment in experiments),
            spans=sum(experiment.spans for experiment in experiments),
            scores=sum(experiment.scores for experiment in experiments),
            size_bytes=await self._write(self._store.size_bytes),
            experiments=experiments,
        )

    async def put(
        self, traces: bytes, experiment: ExperimentReference, *, delivered: Delivered = NOTHING_DELIVERED
    ) -> StoredTraces:
        """As in the protocol."""
        return await self._write(partial(self._put, traces, experiment, delivered))

    def _put(self, body: bytes, experiment: ExperimentReference, delivered: Delivered) -> StoredTraces:
        self._taker.put_off()
        number = self._store.number_of(experiment)
        read = read_document(read_traces, body)
        traces = {
            (number, trace.spans[0].trace_id): Gathered(
                spans=list(trace.spans),
                run_id=trace.run_id,
                seen_unix_ns=min(span.start_unix_ns for span in trace.spans),
                labels=trace.labels,
            )
            for trace in read
            if trace.spans
        }
        for key, before in self._store.stored(list(traces)).items():
            traces[key] = with_put(before, traces[key])
        labels = {key: trace.labels for key, trace in traces.items()}
        self._store.put_labels(labels, seen_unix_ns=time.time_ns())
        scores = {(number, trace.spans[0].trace_id): trace.scores for trace in read if trace.spans}
        self._store.put_scores(scores, delivered)
        self._write_anew(traces)
        return StoredTraces(traces=len(traces), spans=sum(len(trace.spans) for trace in traces.values()))

    def _write_anew(self, traces: Mapping[TraceKey, Gathered]) -> None:
        batch = write_rows(
            traces,
            into=self._settings.folder,
            name="put",
            preview_characters=self._settings.preview_characters,
        )
        self._fault_log.tell("a span is indexed with its name and times alone", batch.faults)
        self._store.put([batch], {})

    async def label(self, infos: bytes, *, delivered: Delivered = NOTHING_DELIVERED) -> int:
        """As in the protocol."""
        return await self._write(partial(self._label, infos, delivered))

    def _label(self, body: bytes, delivered: Delivered) -> int:
        self._taker.put_off()
        told = {
            (self._store.number_of(ExperimentReference(id=each.experiment_id)), each.trace_id): each
            for each in read_document(read_labelled, body)
        }
        labels = {key: each.labels for key, each in told.items()}
        stored = self._store.stored(list(labels))
        self._store.put_labels(labels, seen_unix_ns=time.time_ns())
        self._store.put_scores({key: each.scores for key, each in told.items()}, delivered)
        changed = {key: trace for key, trace in stored.items() if trace.spans and trace.labels != labels[key]}
        for key, trace in changed.items():
            trace.labels = labels[key]
        if changed:
            self._write_anew(changed)
        return len(labels)

    async def labels(self, experiment_id: str, trace_ids: Sequence[str]) -> Mapping[str, TraceLabels]:
        """As in the protocol."""
        return await self._read(lambda db: lookups.labels(db, experiment_id, trace_ids))

    async def scores(self, trace_id: str, *, experiment_ids: frozenset[str] | None) -> bytes:
        """As in the protocol."""
        return answers.encoded(await self._read(lambda db: lookups.scores(db, trace_id, experiment_ids)))

    async def changes(self, query: ChangesQuery) -> Changes:
        """As in the protocol."""
        return await self._read(lambda db: changed(db, query, now_unix_ns=time.time_ns()))

    async def mirror_hold(self, document: Mapping[str, Any]) -> None:
        """As in the protocol."""
        await self._copy(lambda mirror: mirror.hold(document))

    async def mirror_pull(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """As in the protocol."""
        try:
            return {"held": await self._copy(lambda mirror: mirror.pull(document))}
        except DatabaseAway as error:
            return {"away": str(error)}

    async def mirror_clear(self, experiment: int) -> None:
        """As in the protocol."""
        await self._copy(lambda mirror: mirror.clear(experiment))

    async def mirror_measure(self, question: MetricQuestion) -> Mapping[str, Any]:
        """As in the protocol."""
        return await self._look_up(lambda mirror: mirror.measure(question))

    async def mirror_find(self, question: SearchQuestion) -> Mapping[str, Any]:
        """As in the protocol."""
        return await self._look_up(lambda mirror: mirror.find(question))

    async def _look_up(self, run: Callable[[MirrorStore], T]) -> T:
        mirror = self._mirror
        if mirror is None:
            mirror = await self._copy(lambda opened: opened)
        return await asyncio.get_running_loop().run_in_executor(self._reading, run, mirror)

    async def _copy(self, run: Callable[[MirrorStore], T]) -> T:
        """In the one thread that changes the mirror, which is made when it is first needed."""
        return await asyncio.get_running_loop().run_in_executor(self._copying, lambda: run(self._opened()))

    def _opened(self) -> MirrorStore:
        if self._mirror is None:
            memory_bytes = max(self._settings.memory_bytes // 4, MIRROR_BYTES)
            self._mirror = MirrorStore(self._settings.folder, memory_bytes=memory_bytes)
        return self._mirror

    async def name(self, experiment: ExperimentReference) -> None:
        """As in the protocol."""
        await self._write(partial(self._name, experiment))

    def _name(self, experiment: ExperimentReference) -> None:
        self._taker.put_off()
        self._store.number_of(experiment)

    async def forget(self) -> None:
        """As in the protocol."""
        await self._write(self._forget)

    def _forget(self) -> None:
        self._taker.put_off()
        self._store.forget_cursors()

    async def keep(self) -> None:
        """Take out what is too old or too much, and let helping processes go that have nothing to do."""
        try:
            await self._write(self._keep)
        except duckdb.Error:
            _log.exception("the index could not be tidied")

    def _keep(self) -> None:
        self._taker.put_off()
        self._taker.idle()
        before = time.time_ns() - int(self._settings.max_age_seconds * 1e9)
        gone = self._store.forget(seen_before_unix_ns=before, max_bytes=self._settings.max_bytes)
        if gone:
            _log.info("old traces left the index", extra={"traces": gone})

    async def _write(self, run: Callable[[], T]) -> T:
        """In the one thread that changes the store."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, run)

    async def _read(self, run: Callable[[Db], T]) -> T:
        """In a thread of its own, with a connection of its own. Raises QueryTimedOut."""
        return await asyncio.get_running_loop().run_in_executor(
            self._reading, partial(_read, self._source, run)
        )

    async def open(self) -> None:
        """Open the file; in the thread that will change it."""
        self._store, self._taker = await self._write(self._open)
        # only ever asked for further connections
        self._source = self._store.reader()

    def _open(self) -> tuple[Store, Taker]:
        settings = self._settings
        remove_mirror(settings.folder)
        store = open_store(
            settings.folder, memory_bytes=settings.memory_bytes, threads=max(2, os.cpu_count() or 2)
        )
        return store, Taker(
            store,
            settings.journal,
            processes=settings.processes,
            preview_characters=settings.preview_characters,
        )

    async def close(self) -> None:
        """Let go of the file; in the thread that changes it."""
        await self._write(self._close)
        self._writing.shutdown()
        self._copying.shutdown()
        if self._mirror is not None:
            self._mirror.close()
        self._reading.shutdown()

    def _close(self) -> None:
        self._taker.close()
        self._store.close()


@asynccontextmanager
async def open_engine(settings: EngineSettings) -> AsyncIterator[DuckdbIndex]:
    """The index in `settings.folder`, until the block ends. Raises duckdb.Error, OSError."""
    engine = DuckdbIndex(settings)
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


def is_about_the_data(error: Exception) -> bool:
    """Whether the same rows will never be stored; else it is the disk, the memory or the file."""
    if isinstance(error, duckdb.Error):
        return isinstance(error, duckdb.DataError | duckdb.InvalidInputException)
    return not isinstance(error, JournalUnreadable | OSError | MemoryError)


def _read(source: Db, run: Callable[[Db], T]) -> T:
    """`run` with a connection of its own, interrupted after QUERY_SECONDS."""
    db = source.cursor()
    timer = threading.Timer(QUERY_SECONDS, db.interrupt)
    timer.start()
    try:
        return run(db)
    except duckdb.InterruptException as error:
        message = f"it took longer than {QUERY_SECONDS:g} s; ask for less time (since), or for fewer groups"
        raise QueryTimedOut("since", None, message) from error
    finally:
        timer.cancel()
        db.close()
