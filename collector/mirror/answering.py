"""MLflow's own questions, answered for the proxy: all checks in their order, each with its reason."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from collector.mirror.answer import metrics_answer
from collector.mirror.copies import Copies
from collector.mirror.question import MetricQuestion, NotAnswered, PassOnReason, read_question
from collector.mirror.sources import MirrorAway, MirrorRows
from collector.mirror.writes import OpenWrite

_log = logging.getLogger("sidespan.mirror")

# waiting for writes must cost less than MLflow does
WAIT_SECONDS = 1.0
ANSWER_SECONDS = 5.0


@dataclass(slots=True, kw_only=True)
class MirrorAnswering:
    """Answers traces/metrics. `count` is told "index", or the reason why MLflow is asked."""

    copies: Copies
    store: MirrorRows
    count: Callable[[str], None]
    # for people: experiments of which the index lacks traces
    lacking: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    reasons: Counter[str] = field(default_factory=Counter)

    async def answer(self, body: bytes, *, workspace: bool, credentials: bool) -> bytes | None:
        """MLflow's answer to a body; None: MLflow is to be asked.

        `workspace`: one is named. `credentials`: the client's own go to MLflow, which has to judge them.
        """
        try:
            if workspace:
                raise NotAnswered(PassOnReason.WORKSPACE)
            if credentials:
                raise NotAnswered(PassOnReason.CREDENTIALS)
            found = await self._answer(body)
        except NotAnswered as why:
            self._note(why.reason.value)
            return None
        self._note("index")
        return found

    async def _answer(self, body: bytes) -> bytes:
        question = read_question(body)
        ids = [str(id) for id in question.experiment_ids]
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                copies = await self.copies.cover(ids)
                if question.view == "ASSESSMENTS":
                    await self.copies.cover_assessments(ids)
                if question.needs_types and await self.copies.prove_types(ids):
                    question = replace(question, types_are_certain=True)
        except TimeoutError:
            raise NotAnswered(PassOnReason.WRITES_PENDING) from None
        except MirrorAway:
            raise NotAnswered(PassOnReason.INDEX_AWAY) from None
        measured = await self._measured(question)
        if not self.copies.stand(copies):
            raise NotAnswered(PassOnReason.INDEX_AWAY)
        if "doubt" in measured:
            raise NotAnswered(PassOnReason(measured["doubt"]))
        if question.types_are_certain and not self.copies.types_hold(ids):
            raise NotAnswered(PassOnReason.SPAN_TYPES)
        try:
            return metrics_answer(question, measured["rows"])
        except (ValueError, OverflowError, OSError):
            raise NotAnswered(PassOnReason.FAILED) from None

    async def _measured(self, question: MetricQuestion) -> Mapping[str, Any]:
        """Raises NotAnswered: the rows can't be asked."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self.store.measure(question)
        except (MirrorAway, TimeoutError):
            raise NotAnswered(PassOnReason.INDEX_AWAY) from None

    def _note(self, outcome: str) -> None:
        self.reasons[outcome] += 1
        self.count(outcome)

    async def run(self) -> None:
        """Keep the copies up to date, until cancelled."""
        await self.copies.run()

    def write_begins(self) -> OpenWrite:
        """A request that may change traces is about to be passed on."""
        return self.copies.writes.begins()

    def other_write_begins(self) -> Callable[[], None]:
        """What MLflow counts is to be asked anew."""
        return self.copies.writes.other_begins()

    def to_json(self) -> dict[str, Any]:
        """For `sidespan doctor`: what was answered, and why other questions weren't."""
        return {
            "questions": dict(self.reasons),
            "copies": self.copies.states(),
            "lacking": list(self.lacking()),
        }
