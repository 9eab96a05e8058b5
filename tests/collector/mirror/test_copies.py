"""A copy from its first question on, beside an MLflow and a store of the test's own."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from collector.mirror import copies as copies_module
from collector.mirror.copies import Copies
from collector.mirror.question import MetricQuestion, NotAnswered, PassOnReason
from collector.mirror.sources import MirrorAway
from collector.mlflow.client import MlflowAnswer


def answer(document: Mapping[str, Any]) -> MlflowAnswer:
    return MlflowAnswer(status=200, body=json.dumps(document).encode(), headers={})


class Server:
    """MLflow, as far as it is asked: trace ids of one experiment."""

    def __init__(self, *trace_ids: str) -> None:
        self.traces_held = list(trace_ids)

    def info(self, id: str) -> dict[str, Any]:
        return {
            "trace_id": id,
            "trace_location": {"mlflow_experiment": {"experiment_id": "1"}},
            "request_time": "2026-11-20T10:00:00Z",
            "state": "OK",
            "tags": {"mlflow.trace.spansLocation": "TRACKING_STORE"},
        }

    async def trace_metrics(self, document: Mapping[str, Any]) -> MlflowAnswer:
        return answer({"data_points": [{"values": {"COUNT": float(len(self.traces_held))}}]})

    async def search_traces(self, experiment_id: str, **_: Any) -> MlflowAnswer:
        return answer({"traces": [self.info(id) for id in self.traces_held]})

    async def traces(self, trace_ids: Sequence[str]) -> MlflowAnswer:
        found = [id for id in trace_ids if id in self.traces_held]
        return answer({"traces": [{"trace_info": self.info(id)} for id in found]})

    async def trace_infos(self, trace_ids: Sequence[str]) -> MlflowAnswer:
        return answer({"trace_infos": []})


class Rows:
    """A store that keeps ids."""

    def __init__(self) -> None:
        self.life = 1
        self.ids = Counter[str]()
        self.in_part: set[str] = set()

    async def hold(self, document: Mapping[str, Any]) -> None:
        for id in document["gone"]:
            self.ids.pop(id, None)
        self.ids.update(row["trace_id"] for row in document["traces"])
        self.in_part |= {row["trace_id"] for row in document["traces"] if not row["spans_are_held"]}

    async def clear(self, experiment_id: str) -> None:
        self.ids.clear()

    async def measure(self, question: MetricQuestion) -> Mapping[str, Any]:
        return {"rows": []}


@asynccontextmanager
async def copied(server: Any, store: Rows, *, max_traces: int = 1000) -> AsyncIterator[Copies]:
    copies = Copies(server, store, max_traces=max_traces)
    running = asyncio.create_task(copies.run())
    yield copies
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def covered(copies: Copies) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await copies.cover(["1"])
            except NotAnswered as why:
                assert why.reason is PassOnReason.NOT_HELD
                await asyncio.sleep(0.01)


async def refused(copies: Copies) -> PassOnReason:
    with pytest.raises(NotAnswered) as why:
        await copies.cover(["1"])
    return why.value.reason


async def test_the_first_question_begins_a_copy() -> None:
    store = Rows()
    async with copied(Server("tr-1", "tr-2"), store) as copies:
        assert await refused(copies) is PassOnReason.NOT_HELD
        await covered(copies)
        assert store.ids == {"tr-1": 1, "tr-2": 1}


async def test_what_is_written_before_the_first_page_is_held_too() -> None:
    store = Rows()
    async with copied(Server("tr-1", "tr-2"), store) as copies:
        await refused(copies)
        copies.writes.begins().ended(["tr-1"])
        await covered(copies)
        assert store.ids == {"tr-1": 1, "tr-2": 1}


async def test_what_is_written_later_is_read_again_before_an_answer() -> None:
    server, store = Server("tr-1"), Rows()
    async with copied(server, store) as copies:
        await covered(copies)
        write = copies.writes.begins()
        server.traces_held = ["tr-2"]
        write.ended(["tr-1", "tr-2"])
        await covered(copies)
        assert store.ids == {"tr-2": 1}


async def test_after_a_write_of_which_nobody_knows_what_it_changed_all_is_listed() -> None:
    server, store = Server("tr-1", "tr-2"), Rows()
    async with copied(server, store) as copies:
        await covered(copies)
        write = copies.writes.begins()
        server.traces_held = ["tr-2", "tr-3"]
        write.ended((), all_known=False)
        assert await refused(copies) is PassOnReason.WRITES_PENDING
        async with asyncio.timeout(60):
            while store.ids != {"tr-2": 1, "tr-3": 1}:
                await asyncio.sleep(0.01)
        await covered(copies)


async def test_nothing_is_covered_while_the_answer_to_a_write_is_lost() -> None:
    async with copied(Server("tr-1"), Rows()) as copies:
        await covered(copies)
        copies.writes.begins().ended(["tr-1"], answered=False)
        assert await refused(copies) is PassOnReason.WRITES_PENDING


async def test_rows_that_the_store_took_in_without_saying_so_are_not_held_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copies_module, "RETRY_SECONDS", 0.01)

    class Silent(Rows):
        failures = 1

        async def hold(self, document: Mapping[str, Any]) -> None:
            await super().hold(document)
            if self.failures:
                self.failures -= 1
                raise MirrorAway("no answer came")

    store = Silent()
    async with copied(Server("tr-1", "tr-2"), store) as copies:
        await covered(copies)
        assert store.ids == {"tr-1": 1, "tr-2": 1}


@pytest.mark.parametrize(
    "untold",
    [
        pytest.param(MlflowAnswer(status=200, body=b"{", headers={}, is_cut=True), id="it_is_too_long"),
        pytest.param(MlflowAnswer(status=500, body=b"{}", headers={}), id="MLflow_fails_at_it"),
    ],
)
async def test_a_trace_that_cannot_be_read_holds_up_no_other(untold: MlflowAnswer) -> None:
    class Partly(Server):
        async def traces(self, trace_ids: Sequence[str]) -> MlflowAnswer:
            return untold if "tr-2" in trace_ids else await super().traces(trace_ids)

        async def trace_infos(self, trace_ids: Sequence[str]) -> MlflowAnswer:
            return answer({"trace_infos": [self.info(id) for id in trace_ids]})

    store = Rows()
    async with copied(Partly("tr-1", "tr-2", "tr-3"), store) as copies:
        await covered(copies)
        assert store.ids == {"tr-1": 1, "tr-2": 1, "tr-3": 1}
        assert store.in_part == {"tr-2"}


async def test_other_counts_than_mlflows_are_no_answer() -> None:
    server = Server("tr-1")
    async with copied(server, Rows()) as copies:
        await covered(copies)
        copies.writes.others += 1
        server.traces_held.append("tr-2")
        assert await refused(copies) is PassOnReason.COUNTS_DIFFER


async def test_what_is_too_much_is_not_copied() -> None:
    async with copied(Server("tr-1", "tr-2"), Rows(), max_traces=1) as copies:
        assert await refused(copies) is PassOnReason.TOO_MANY


async def test_a_copy_that_grows_beyond_the_bound_is_let_go() -> None:
    server, store = Server("tr-1"), Rows()
    async with copied(server, store, max_traces=2) as copies:
        await covered(copies)
        server.traces_held += ["tr-2", "tr-3"]
        copies.writes.begins().ended(["tr-2", "tr-3"])
        async with asyncio.timeout(60):
            while copies.states():
                copies.writes.note(())
                await asyncio.sleep(0.01)
        assert not store.ids
        assert await refused(copies) is PassOnReason.TOO_MANY


async def test_a_copy_that_was_begun_anew_is_not_forgotten_with_the_one_before() -> None:
    async with copied(Server("tr-1"), Rows()) as copies:
        await covered(copies)
        before = copies._copies["1"]
        copies._drop(before)
        await covered(copies)
        copies._drop(before)
        await copies.cover(["1"])


async def test_more_writes_than_can_be_read_are_not_remembered_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copies_module, "MAX_UNREAD", 2)
    async with copied(Server("tr-1"), Rows()) as copies:
        await covered(copies)
        copies.writes.begins().ended(["tr-1", "tr-2", "tr-3"])
        async with asyncio.timeout(60):
            while copies.writes.backlog:
                await asyncio.sleep(0.01)
        assert copies.states() == []
        await covered(copies)


async def test_a_store_that_was_lost_is_filled_again() -> None:
    store = Rows()
    async with copied(Server("tr-1"), store) as copies:
        await covered(copies)
        store.life, store.ids = 2, Counter()
        assert await refused(copies) is PassOnReason.INDEX_AWAY
        async with asyncio.timeout(60):
            while await refused(copies) is PassOnReason.INDEX_AWAY:  # until the task that fills it looks
                await asyncio.sleep(0.001)
        await covered(copies)
        assert store.ids == {"tr-1": 1}
