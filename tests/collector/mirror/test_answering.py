"""What stands between MLflow's question and an answer from the copy."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from collector.mirror.answering import MirrorAnswering
from collector.mirror.copies import Copies
from collector.mirror.search import SearchQuestion
from collector.mlflow.client import MlflowAnswer
from proxy.questions import MlflowQuestion
from tests.collector.mirror.test_copies import Rows, Server, answer, copied, covered

QUESTION = json.dumps(
    {
        "experiment_ids": ["1"],
        "view_type": "TRACES",
        "metric_name": "trace_count",
        "aggregations": [{"aggregation_type": "COUNT"}],
    }
).encode()


class Counting(Rows):
    """A store that counts, and may be lost by what happens `before` it is asked."""

    async def measure(self, question: Any) -> Mapping[str, Any]:
        return {"rows": [[len(self.ids)]]}

    async def find(self, question: SearchQuestion) -> Mapping[str, Any]:
        return {"rows": [[id, 1_795_168_800_000, None, "OK", None, None] for id in sorted(self.ids)]}


class Losing(Server):
    """MLflow; while it counts, the store loses its rows."""

    store: Counting | None = None

    async def trace_metrics(self, document: Mapping[str, Any]) -> MlflowAnswer:
        if self.store is not None:
            self.store.life, self.store.ids = 2, Counter()
            await asyncio.sleep(0)
        return await super().trace_metrics(document)


async def asked(answering: MirrorAnswering) -> bytes | None:
    question = MlflowQuestion(form="metrics", text=QUESTION)
    return await answering.answer(question, workspace=False, credentials=False)


def answering_of(copies: Copies, store: Counting, told: Callable[[str], None] = print) -> MirrorAnswering:
    return MirrorAnswering(api=copies._api, copies=copies, store=store, count=told)


async def test_what_is_covered_is_answered() -> None:
    store = Counting()
    async with copied(Server("tr-1"), store) as copies:
        await covered(copies)
        found = await asked(answering_of(copies, store))
        assert found is not None
        assert json.loads(found)["data_points"][0]["values"] == {"COUNT": 1.0}


async def test_rows_that_are_lost_while_mlflow_counts_are_no_answer() -> None:
    store, server = Counting(), Losing("tr-1")
    async with copied(server, store) as copies:
        await covered(copies)
        copies.writes.others += 1
        server.store = store
        told = list[str]()
        assert await asked(answering_of(copies, store, told.append)) is None
        assert told == ["index_away"]


@pytest.mark.parametrize("begun_anew", [False, True])
async def test_a_copy_that_is_forgotten_while_it_is_asked_is_no_answer(begun_anew: bool) -> None:
    store = Counting()
    async with copied(Server("tr-1"), store) as copies:
        await covered(copies)
        measure = store.measure

        async def forgetful(question: Any) -> Mapping[str, Any]:
            copies._drop(copies._copies["1"])
            if begun_anew:
                await covered(copies)
            return await measure(question)

        store.measure = forgetful  # type: ignore[method-assign]
        told = list[str]()
        assert await asked(answering_of(copies, store, told.append)) is None
        assert told == ["index_away"]


class Searched(Server):
    """MLflow, in which a trace is deleted each time that it is asked for its page, up to `deletes` times."""

    deletes = 0

    async def search_page(self, document: Mapping[str, Any]) -> MlflowAnswer:
        for _ in range(min(self.deletes, 1)):
            self.deletes, self.traces_held = self.deletes - 1, self.traces_held[1:]
        asked = document["filter"]
        return answer({"traces": [self.info(id) for id in self.traces_held if f"'{id}'" in asked]})


SEARCH = json.dumps(
    {
        "locations": [{"mlflow_experiment": {"experiment_id": "1"}}],
        "filter": "span.name = 'a'",
    }
).encode()


@pytest.mark.parametrize(
    ("deletes", "found", "told"),
    [
        pytest.param(0, ["tr-1", "tr-2", "tr-3"], ["index"], id="a_page_that_stays"),
        pytest.param(1, ["tr-2", "tr-3"], ["index"], id="a_page_that_changes_once"),
        pytest.param(2, None, ["writes_pending"], id="a_page_that_changes_all_the_time"),
    ],
)
async def test_a_page_is_as_mlflow_tells_it(deletes: int, found: list[str] | None, told: list[str]) -> None:
    store, server, counted = Counting(), Searched("tr-1", "tr-2", "tr-3"), list[str]()
    async with copied(server, store) as copies:
        await covered(copies)
        server.deletes = deletes
        answering = answering_of(copies, store, counted.append)

        async def find(question: SearchQuestion) -> Mapping[str, Any]:
            rows = await Counting.find(store, question)
            store.ids -= Counter(sorted(store.ids)[:1] if server.deletes else [])
            return rows

        store.find = find  # type: ignore[method-assign]
        said = await answering.answer(
            MlflowQuestion(form="search", text=SEARCH), workspace=False, credentials=False
        )
        ids = None if said is None else [each["trace_id"] for each in json.loads(said)["traces"]]
        assert (ids, counted) == (found, told)
