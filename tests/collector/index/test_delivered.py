"""What may still be on its way to MLflow when it is asked for a trace's scores."""

import time

from collector.index.delivered import MARGIN_NS, delivered
from collector.journal.memory import MemoryJournal
from collector.model.batch import Draft, Route, Signal

A, B = b"a" * 16, b"b" * 16
ROUTE = Route(experiment_id="1")


def draft(lane: str, trace_id: bytes) -> Draft:
    return Draft(lane=lane, payload=b"x", span_count=1, trace_ids=frozenset({trace_id}))


async def test_traces_wait_for_their_spans_and_for_their_log_records() -> None:
    journal = MemoryJournal(log_consumers=("logs",))
    consumers = journal.consumer("delivery"), journal.consumer("logs")
    ids = [f"tr-{A.hex()}", f"tr-{B.hex()}", "nonsense"]
    last = await journal.log.append([draft(ROUTE.lane, A), draft(ROUTE.lane_of(Signal.LOGS), B)])
    before = time.time_ns()
    assert (await delivered(consumers, ids)).but == {A.hex(), B.hex()}
    await consumers[0].commit(ROUTE.lane, through=last)
    assert (await delivered(consumers, ids)).but == {B.hex()}
    await consumers[1].commit(ROUTE.lane_of(Signal.LOGS), through=last)
    found = await delivered(consumers, ids)
    assert not found.but and before - MARGIN_NS <= found.before_unix_ns <= time.time_ns() - MARGIN_NS
