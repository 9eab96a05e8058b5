"""How far the groups are behind, without brokers: when they are asked."""

import asyncio
import threading

import pytest

from collector.journal.kafka.client import KafkaConnection
from collector.journal.kafka.lag import LagBound, LogOffsets
from collector.settings.engines import Engine, EnginePlace, KafkaSettings


async def test_a_question_at_once_is_not_answered_by_one_that_was_asked_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[LogOffsets] = []
    goes_on = threading.Event()

    def ask(lag: LagBound) -> LogOffsets:
        asked.append(LogOffsets(begins={}, ends={}, groups={}))
        found = asked[-1]
        goes_on.wait(30)
        return found

    monkeypatch.setattr(LagBound, "ask", ask)
    place = EnginePlace(engine=Engine.KAFKA, hosts=("127.0.0.1:1",), name="log")
    lag = LagBound(KafkaConnection(place, KafkaSettings()), (), ())
    lag.look_beside()
    while not asked:
        await asyncio.sleep(0.01)
    first, second = (asyncio.create_task(lag.look(at_once=True)) for _ in range(2))
    await asyncio.sleep(0)
    goes_on.set()
    answers = [await first, await second]
    assert len(asked) == 2, "both share the new question"
    assert all(answer is asked[1] for answer in answers)
