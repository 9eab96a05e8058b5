"""When a single trace may be answered from the index alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from collector.answers.indexed import IndexedTraces
from collector.index.protocol import TraceQuery
from collector.journal import CannotTell, PartitionLag
from collector.journal.memory import MemoryJournal
from collector.model.batch import Draft, Route
from collector.model.errors import Reason, Unavailable
from collector.spans.summary_models import RowsOfSpans

ONE, TWO = Route(experiment_id="1"), Route(experiment_id="2")
TRACE = b"t" * 16


class Index:
    async def trace(self, query: TraceQuery) -> bytes:
        return b"{}"


class NoLookup:
    async def payloads(self, trace_id: bytes) -> CannotTell:
        return CannotTell(reason="not now")

    async def routes(self, trace_id: bytes) -> CannotTell:
        return CannotTell(reason="not now")


def draft(route: Route, trace_id: bytes) -> Draft:
    return Draft(lane=route.lane, payload=b"x", span_count=1, trace_ids=frozenset({trace_id}))


async def answer(journal: MemoryJournal, pending: Any = None) -> bytes | None:
    traces = IndexedTraces(
        index=Index(),  # type: ignore[arg-type]
        consumer=journal.consumer("index"),
        pending=pending or journal.pending_traces,
    )
    return await traces.whole(TRACE.hex(), RowsOfSpans(most=10), experiments=None)


@pytest.mark.parametrize(
    ("waiting", "is_answered"),
    [
        ([], True),
        ([(TWO, b"o" * 16)], True),
        ([(ONE, TRACE)], False),
    ],
    ids=["nothing_waits", "something_else_waits", "a_part_waits"],
)
async def test_a_trace_is_whole_unless_a_part_of_it_waits_for_the_index(
    waiting: Sequence[tuple[Route, bytes]], is_answered: bool
) -> None:
    journal = MemoryJournal(consumers=("delivery", "index"))
    for route, trace_id in waiting:
        await journal.log.append([draft(route, trace_id)])
    assert (await answer(journal) is not None) == is_answered


async def test_where_the_log_cant_tell_a_trace_is_whole_only_while_nothing_waits() -> None:
    journal = MemoryJournal(consumers=("delivery", "index"))
    assert await answer(journal, NoLookup()) == b"{}"
    await journal.log.append([draft(TWO, b"o" * 16)])
    assert await answer(journal, NoLookup()) is None


@dataclass
class SharedBy:
    """A log of three partitions in which so much waits for the group `index`; None: it doesn't answer."""

    lags: Mapping[int, int] | None

    async def lag(self) -> Sequence[PartitionLag]:
        if self.lags is None:
            raise Unavailable(Reason.JOURNAL_FAILED, "away")
        others = [PartitionLag(group="deliver", partition=number, entries=9) for number in range(3)]
        ours = [PartitionLag(group="index", partition=at, entries=n) for at, n in self.lags.items()]
        return [*others, *ours]

    def partition_of(self, trace_id: bytes) -> int:
        return 1


@pytest.mark.parametrize(
    ("lags", "is_answered"),
    [({0: 0, 1: 0, 2: 0}, True), ({0: 5, 1: 0, 2: 7}, True), ({0: 0, 1: 1, 2: 0}, False), (None, False)],
    ids=["nothing_waits", "others_wait", "its_partition_waits", "cannot_tell"],
)
async def test_where_others_index_a_trace_is_whole_while_nothing_of_its_partition_waits(
    lags: Mapping[int, int] | None, is_answered: bool
) -> None:
    journal = MemoryJournal(consumers=("delivery", "index"))
    traces = IndexedTraces(
        index=Index(),  # type: ignore[arg-type]
        consumer=journal.consumer("index"),
        pending=NoLookup(),
        shared=SharedBy(lags),
    )
    assert (
        await traces.whole(TRACE.hex(), RowsOfSpans(most=10), experiments=None) is not None
    ) == is_answered
