"""What stands between MLflow's question and an answer from the copy."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from collector.mirror.answering import MirrorAnswering
from collector.mlflow.client import MlflowAnswer
from tests.collector.mirror.test_copies import Rows, Server, copied, covered

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


class Losing(Server):
    """MLflow; while it counts, the store loses its rows."""

    store: Counting | None = None

    async def trace_metrics(self, document: Mapping[str, Any]) -> MlflowAnswer:
        if self.store is not None:
            self.store.life, self.store.ids = 2, Counter()
            await asyncio.sleep(0)
        return await super().trace_metrics(document)


async def asked(answering: MirrorAnswering) -> bytes | None:
    return await answering.answer(QUESTION, workspace=False, credentials=False)


async def test_what_is_covered_is_answered() -> None:
    store = Counting()
    async with copied(Server("tr-1"), store) as copies:
        await covered(copies)
        found = await asked(MirrorAnswering(copies=copies, store=store, count=lambda _: None))
        assert found is not None
        assert json.loads(found)["data_points"][0]["values"] == {"COUNT": 1.0}


async def test_rows_that_are_lost_while_mlflow_counts_are_no_answer() -> None:
    store, server = Counting(), Losing("tr-1")
    async with copied(server, store) as copies:
        await covered(copies)
        copies.writes.others += 1
        server.store = store
        told = list[str]()
        assert await asked(MirrorAnswering(copies=copies, store=store, count=told.append)) is None
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
        assert await asked(MirrorAnswering(copies=copies, store=store, count=told.append)) is None
        assert told == ["index_away"]
