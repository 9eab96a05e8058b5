"""What came to MLflow without Sidespan, and is brought to the index."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest

from collector.index import catch_up as catch_up_module
from collector.index.backfill import MlflowSays
from collector.index.catch_up import CatchUp
from collector.spans.labels import TraceLabels

DAY_SECONDS = 86_400
NOW_MS = int(time.time() * 1000)


def trace(number: int) -> str:
    return f"tr-{number:032x}"


class Stores:
    """The index, as far as it is asked, and the backfill that fills it; it fails `failures` times."""

    def __init__(self, *held: str, failures: int = 0) -> None:
        self.held, self.failures = set(held), failures
        self.put_in: list[str] = []

    async def labels(self, experiment_id: str, trace_ids: Sequence[str]) -> Mapping[str, TraceLabels]:
        return {id: TraceLabels() for id in trace_ids if f"tr-{id}" in self.held}

    async def put(self, experiment_id: str, trace_ids: Sequence[str]) -> int:
        if self.failures:
            self.failures -= 1
            raise MlflowSays("it is starting")
        self.put_in += trace_ids
        self.held |= set(trace_ids)
        return len(trace_ids)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up_module, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(catch_up_module, "RETRY_SECONDS", 0.0)


async def caught_up(
    stores: Any, *listings: Mapping[str, int], max_traces: int = 1000
) -> tuple[CatchUp, list[int]]:
    """After each listing was looked at."""
    told: list[int] = []
    made = CatchUp(
        index=stores,
        backfill=stores,
        max_traces=max_traces,
        max_age_seconds=DAY_SECONDS,
        tell=told.append,
    )
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(10):
        for listing in listings:
            made.listed("1", listing)
            while made._listed:
                await asyncio.sleep(0.001)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return made, told


async def test_what_the_index_lacks_is_read_the_newest_first() -> None:
    stores = Stores(trace(1))
    made, told = await caught_up(stores, {trace(n): NOW_MS + n for n in range(4)})
    assert stores.put_in == [trace(3), trace(2), trace(0)]
    assert told == [3, 0] and made.states() == []


async def test_no_more_are_read_than_the_bound_and_the_rest_is_shown() -> None:
    stores = Stores()
    made, told = await caught_up(stores, {trace(n): NOW_MS + n for n in range(5)}, max_traces=2)
    assert stores.put_in == [trace(4), trace(3)]
    assert told[-1] == 3 and made.states() == [{"experiment_id": "1", "traces": 3}]


@pytest.mark.parametrize(
    "listing",
    [
        pytest.param({trace(1): NOW_MS - 2 * DAY_SECONDS * 1000}, id="the_index_would_let_it_go"),
        pytest.param({"a-run-of-an-older-SDK": NOW_MS}, id="its_id_is_no_trace_id"),
    ],
)
async def test_what_the_index_would_not_hold_is_not_read(listing: Mapping[str, int]) -> None:
    stores = Stores()
    made, told = await caught_up(stores, listing)
    assert stores.put_in == [] and told == [0]


async def test_a_trace_that_left_again_is_not_read_twice() -> None:
    class Full(Stores):
        async def put(self, experiment_id: str, trace_ids: Sequence[str]) -> int:
            found = await super().put(experiment_id, trace_ids)
            self.held.clear()
            return found

    stores, listing = Full(), {trace(1): NOW_MS}
    await caught_up(stores, listing, dict(listing))
    assert stores.put_in == [trace(1)]


async def test_it_tries_again_while_mlflow_cannot_be_asked() -> None:
    stores = Stores(failures=2)
    _, told = await caught_up(stores, {trace(1): NOW_MS})
    assert stores.put_in == [trace(1)] and told[-1] == 0
