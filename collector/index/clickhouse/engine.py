"""The verbs of the index over ClickHouse: an Index whose store is a server of its own.

Whatever asks the server runs in threads; rows are made in processes beside the service. While no host
answers, every verb raises IndexAway, and one is looked for in the background.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from starlette.concurrency import iterate_in_threadpool

from collector.index.clickhouse import lookups
from collector.index.clickhouse.book import ExperimentBook
from collector.index.clickhouse.changes import changed
from collector.index.clickhouse.kept import KeptNumbers
from collector.index.clickhouse.lookups import ClickhouseTables
from collector.index.clickhouse.make import rewritten
from collector.index.clickhouse.preparing import prepare, size_bytes
from collector.index.clickhouse.schema import Layout
from collector.index.clickhouse.server import ClickhouseServer
from collector.index.clickhouse.store import ClickhouseStore
from collector.index.clickhouse.take import EntryTaker
from collector.index.protocol import (
    NOTHING_DELIVERED,
    Changes,
    ChangesQuery,
    Delivered,
    FileAnswer,
    IndexAway,
    IndexedBatch,
    IndexFailure,
    IndexQuery,
    IndexState,
    IndexUnreachable,
    JsonAnswer,
    Lane,
    QueryTimedOut,
    StoredTraces,
    TraceQuery,
)
from collector.index.queries.asked import Asked
from collector.index.rows.documents import read_document
from collector.index.rows.gathered import Gathered, TraceKey, with_put
from collector.index.rows.one_trace import summary_of
from collector.index.sql import answers
from collector.index.sql.answers import Export
from collector.journal import Consumer
from collector.model.errors import Misconfigured
from collector.model.experiment import ExperimentReference
from collector.settings import ClickhouseSettings, EnginePlace, IndexSettings
from collector.spans.labels import TraceLabels
from collector.spans.mlflow_trace import read_labelled, read_traces
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.supervision import RestartPause, supervised

_log = logging.getLogger("sidespan.index")

T = TypeVar("T")
READERS = 8
AGAIN_SECONDS = 1.0
KEEP_SECONDS = 30.0
PAUSE = RestartPause(first_seconds=1.0, max_seconds=30.0)
# nothing is written before it is sent
NO_FOLDER = Path()


class ClickhouseIndex:
    """The index on ClickHouse; opened by `open_clickhouse_index`."""

    def __init__(
        self, server: ClickhouseServer, layout: Layout, settings: IndexSettings, consumer: Consumer | None
    ) -> None:
        self._server = server
        self._layout = layout
        self._preview_characters = settings.preview_characters
        self._store = ClickhouseStore(server)
        self._kept = KeptNumbers(server, layout)
        self._consumer = consumer
        self._taker = None if consumer is None else self._entry_taker(consumer, settings)
        self._fault_log = FaultLog()
        self._changing = asyncio.Lock()
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="index")
        self._ready, self._lost = asyncio.Event(), asyncio.Event()
        self._reason: str | None = None

    def _entry_taker(self, consumer: Consumer, settings: IndexSettings) -> EntryTaker:
        return EntryTaker(
            self._store,
            consumer,
            processes=settings.processes,
            preview_characters=settings.preview_characters,
        )

    @property
    def trouble(self) -> str | None:
        """Why it can't be asked, or None."""
        return None if self._ready.is_set() else self._reason or "it is starting"

    @property
    def starting(self) -> bool:
        """Whether this is its first start: no trouble yet."""
        return not self._ready.is_set() and self._reason is None

    async def ready(self) -> None:
        """Wait until it can be asked."""
        await self._ready.wait()

    async def take(self, lanes: Sequence[Lane], *, limit_spans: int) -> IndexedBatch:
        """As in the protocol."""
        if self._taker is None:
            raise IndexFailure("this process does not feed the index")
        self._check()
        async with self._changing:
            try:
                return await self._taker.take(lanes, limit_spans=limit_spans)
            except IndexUnreachable as error:
                self._lose(error)
                raise
            except QueryTimedOut as error:  # a server that is busy now
                raise IndexUnreachable(str(error)) from error

    async def ask(self, query: IndexQuery) -> JsonAnswer | FileAnswer | None:
        """As in the protocol."""
        asked = Asked(
            parameters=query.parameters, now_unix_ns=time.time_ns(), experiments=query.experiment_ids
        )
        tables = ClickhouseTables(self._server, self._kept.now())
        answer = await self._run(lambda: answers.answer(tables, query, asked, NO_FOLDER))
        if isinstance(answer, Export):
            chunks = iterate_in_threadpool(answer.chunks())
            return FileAnswer(media_type=answer.media_type, name=answer.name, chunks=chunks)
        return None if answer is None else JsonAnswer(body=answers.encoded(answer))

    async def trace(self, query: TraceQuery) -> bytes | None:
        """As in the protocol."""

        def summary() -> bytes | None:
            about = (self._server, query.trace_id, query.experiment_ids)
            found, scores = lookups.find_trace(*about), lookups.scores(*about)
            return summary_of(found, query, scores, preview_characters=self._preview_characters)

        return await self._run(summary)

    async def owners(self, trace_id: str) -> frozenset[str]:
        """As in the protocol."""
        try:
            return await self._run(lambda: lookups.owners(self._server, trace_id))
        except IndexAway:
            return frozenset()

    async def experiments(self) -> Sequence[str]:
        """As in the protocol; also those whose traces have left."""
        try:
            return await self._run(lambda: lookups.experiment_ids_of(self._server))
        except IndexAway:
            return ()

    async def state(self) -> IndexState:
        """As in the protocol."""

        def state() -> IndexState:
            size = size_bytes(self._server, self._layout)
            return lookups.state_of(self._server, size_bytes=size)

        return await self._run(state)

    async def put(
        self, traces: bytes, experiment: ExperimentReference, *, delivered: Delivered = NOTHING_DELIVERED
    ) -> StoredTraces:
        """As in the protocol."""
        async with self._changing:
            return await self._run(partial(self._put, traces, experiment, delivered))

    def _put(self, body: bytes, experiment: ExperimentReference, delivered: Delivered) -> StoredTraces:
        found = [trace for trace in read_document(read_traces, body) if trace.spans]
        number = ExperimentBook(self._store).number_of(experiment)
        traces = {
            (number, trace.spans[0].trace_id): Gathered(
                spans=list(trace.spans),
                run_id=trace.run_id,
                seen_unix_ns=min(span.start_unix_ns for span in trace.spans),
                labels=trace.labels,
            )
            for trace in found
        }
        labels = {key: trace.labels for key, trace in traces.items()}
        for key, before in self._store.stored(list(traces)).items():
            traces[key] = with_put(before, traces[key])
        self._store.put_labels(labels)
        scores = {(number, trace.spans[0].trace_id): trace.scores for trace in found}
        self._store.put_scores(scores, delivered)
        self._write_anew(traces)
        return StoredTraces(traces=len(traces), spans=sum(len(trace.spans) for trace in traces.values()))

    def _write_anew(self, traces: Mapping[TraceKey, Gathered]) -> None:
        made = rewritten(traces, preview_characters=self._preview_characters)
        self._fault_log.tell("a span is indexed with its name and times alone", made.faults)
        self._store.put(made.rows)

    async def label(self, infos: bytes, *, delivered: Delivered = NOTHING_DELIVERED) -> int:
        """As in the protocol."""
        async with self._changing:
            return await self._run(partial(self._label, infos, delivered))

    def _label(self, body: bytes, delivered: Delivered) -> int:
        infos, book = read_document(read_labelled, body), ExperimentBook(self._store)
        told = {
            (book.number_of(ExperimentReference(id=each.experiment_id)), each.trace_id): each
            for each in infos
        }
        labels = {key: each.labels for key, each in told.items()}
        self._store.put_scores({key: each.scores for key, each in told.items()}, delivered)
        # first the labels, then the rows: whoever puts rows in between has read the labels
        self._store.put_labels(labels)
        stored = self._store.stored(list(labels))
        changed = {key: trace for key, trace in stored.items() if trace.spans}
        for key, trace in changed.items():
            trace.labels = labels[key]
        if changed:
            self._write_anew(changed)
        return len(labels)

    async def labels(self, experiment_id: str, trace_ids: Sequence[str]) -> Mapping[str, TraceLabels]:
        """As in the protocol."""
        return await self._run(lambda: lookups.labels(self._server, experiment_id, trace_ids))

    async def scores(self, trace_id: str, *, experiment_ids: frozenset[str] | None) -> bytes:
        """As in the protocol."""
        found = await self._run(lambda: lookups.scores(self._server, trace_id, experiment_ids))
        return answers.encoded(found)

    async def changes(self, query: ChangesQuery) -> Changes:
        """As in the protocol, within a second or so, whichever process indexed them."""
        return await self._run(lambda: changed(self._server, query, now_unix_ns=time.time_ns()))

    async def name(self, experiment: ExperimentReference) -> None:
        """As in the protocol."""
        async with self._changing:
            await self._run(lambda: ExperimentBook(self._store).number_of(experiment))

    async def forget(self) -> None:
        """Have the log's entries come again: how far it is read is noted there alone."""
        if self._consumer is not None:
            await self._consumer.replay(since_unix_ns=0)

    def _check(self) -> None:
        if trouble := self.trouble:
            raise IndexUnreachable(f"the index does not answer: {trouble}")

    def _lose(self, error: Exception) -> None:
        """Ask again in the background, until a host answers."""
        self._reason = str(error)
        self._ready.clear()
        self._lost.set()

    async def _run(self, run: Callable[[], T]) -> T:
        """In a thread. Raises IndexAway, IndexFailure, QueryTimedOut."""
        self._check()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except IndexUnreachable as error:
            self._lose(error)
            raise

    async def start(self) -> None:
        """Look once whether it is there. Raises Misconfigured: it can't be used as it is."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._threads, prepare, self._server, self._layout)
        except (IndexAway, IndexFailure) as error:
            self._reason = str(error)
            _log.error("the index can't be used now", extra={"reason": self._reason})
        else:
            self._ready.set()
            self._reason = None

    async def watch(self) -> None:
        """Bring it back whenever it was lost, and let helping processes go; until cancelled."""
        while True:
            if not self._ready.is_set():
                await asyncio.sleep(AGAIN_SECONDS)
                await self._start_again()
                continue
            self._lost.clear()
            try:
                await asyncio.wait_for(self._lost.wait(), KEEP_SECONDS)
            except TimeoutError:
                if self._taker is not None:
                    self._taker.idle()

    async def _start_again(self) -> None:
        try:
            await self.start()
        except Misconfigured as error:
            if self._reason != str(error):
                _log.error("the index can't be used", extra={"reason": str(error)})
            self._reason = str(error)
        else:
            if self._ready.is_set():
                _log.info("the index answers")

    async def close(self) -> None:
        """Let go of processes, threads and connections."""
        if self._taker is not None:
            await asyncio.to_thread(self._taker.close)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._server.close()


@asynccontextmanager
async def open_index(
    place: EnginePlace, settings: ClickhouseSettings, index: IndexSettings, consumer: Consumer | None
) -> AsyncIterator[ClickhouseIndex]:
    """The index until the block ends. Raises Misconfigured: it answers, and can't be used as it is."""
    layout = Layout(
        database=place.name,
        cluster=settings.cluster,
        replicated=settings.replicated,
        max_age_seconds=index.max_age_seconds,
    )
    engine = ClickhouseIndex(ClickhouseServer(place, settings), layout, index, consumer)
    try:
        await engine.start()
        async with supervised("the connection to the index", engine.watch, pause=PAUSE):
            yield engine
    finally:
        await engine.close()
