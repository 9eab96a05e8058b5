"""When types of spans are proven."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from collector.mirror.span_types import TypeProof
from collector.mirror.writes import Writes

TYPES = {"data_points": [{"dimensions": {"span_type": "LLM"}, "values": {"COUNT": 1.0}}]}


@pytest.mark.parametrize(
    ("ours", "holds"), [pytest.param(1, True, id="equal_counts"), pytest.param(2, False, id="other_counts")]
)
async def test_types_hold_where_mlflow_counts_the_same(ours: int, holds: bool) -> None:
    assert await proof_of(ours) is holds


@pytest.mark.parametrize("ended", [False, True])
async def test_a_write_that_only_mlflow_has_counted_proves_nothing(ended: bool) -> None:
    writes = Writes(lambda _: True)

    async def written() -> None:
        write = writes.begins("1")
        if ended:
            write.ended((), experiment_id="1")

    assert await proof_of(1, writes, before_measuring=written) is False


async def test_nothing_is_proven_while_a_write_is_on_its_way() -> None:
    writes = Writes(lambda _: True)
    writes.begins("1")
    assert await proof_of(1, writes) is False


async def proof_of(ours: int, writes: Writes | None = None, before_measuring: Any = None) -> bool:
    """Whether types are proven by MLflow's count of 1 and this count of ours."""
    known = writes or Writes(lambda _: True)
    proof = TypeProof()
    proof.note(5)

    async def ask(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return TYPES

    async def measure(_: Any) -> Mapping[str, Any]:
        if before_measuring is not None:
            await before_measuring()
        return {"rows": [["LLM", ours]]}

    async with asyncio.timeout(60):
        return await proof.attempt(1, ask, measure, lambda: known.quiet("1"))
