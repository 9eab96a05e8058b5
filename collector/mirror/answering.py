"""MLflow's own questions, answered for the proxy: all checks in their order, each with its reason."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from collector.mirror.answer import metrics_answer
from collector.mirror.copies import Copies
from collector.mirror.question import MetricQuestion, NotAnswered, PassOnReason, read_question
from collector.mirror.reading import read_page
from collector.mirror.search import SearchForm, SearchQuestion, read_search
from collector.mirror.search_answer import NOTHING, search_answer
from collector.mirror.sources import MirrorAway, MirrorRows
from collector.mirror.writes import OpenWrite
from collector.mlflow.client import MlflowUnreachable
from collector.mlflow.rest import MlflowApi
from proxy.questions import MlflowQuestion

_log = logging.getLogger("sidespan.mirror")

# waiting for writes must cost less than MLflow does
WAIT_SECONDS = 1.0
ANSWER_SECONDS = 5.0
# how often a page is looked for whose traces change while MLflow tells of them
SEARCHES = 2

Question = TypeVar("Question", MetricQuestion, SearchQuestion)


@dataclass(slots=True, kw_only=True)
class MirrorAnswering:
    """Answers traces/metrics and traces/search.

    `count` is told "index", or the reason why MLflow is asked.
    """

    api: MlflowApi
    copies: Copies
    store: MirrorRows
    count: Callable[[str], None]
    # for people: experiments of which the index lacks traces
    lacking: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    reasons: Counter[str] = field(default_factory=Counter)

    async def answer(self, asked: MlflowQuestion, *, workspace: bool, credentials: bool) -> bytes | None:
        """MLflow's answer; None: MLflow is to be asked.

        `workspace`: one is named. `credentials`: the client's own go to MLflow, which has to judge them.
        """
        try:
            if workspace:
                raise NotAnswered(PassOnReason.WORKSPACE)
            if credentials:
                raise NotAnswered(PassOnReason.CREDENTIALS)
            found = await self._answer(asked)
        except NotAnswered as why:
            self._note(why.reason.value)
            return None
        self._note("index")
        return found

    async def _answer(self, asked: MlflowQuestion) -> bytes:
        match asked.form:
            case "metrics":
                return await self._metrics(read_question(asked.text))
            case "search":
                return await self._search(read_search(SearchForm.V3, asked.text))
            case "search_v2":
                return await self._search(read_search(SearchForm.V2, asked.text))
            case _:
                raise NotAnswered(PassOnReason.UNREADABLE)

    async def _metrics(self, question: MetricQuestion) -> bytes:
        rows = await self._rows(question, self.store.measure)
        try:
            return metrics_answer(question, rows)
        except (ValueError, OverflowError, OSError):
            raise NotAnswered(PassOnReason.FAILED) from None

    async def _search(self, question: SearchQuestion) -> bytes:
        for _ in range(SEARCHES):
            rows = await self._rows(question, self.store.find)
            if not rows:
                return NOTHING
            try:
                body = await read_page(self.api, question, rows)
                found = search_answer(question, rows, body)
            except (MlflowUnreachable, ValueError, LookupError, ArithmeticError, TypeError, AttributeError):
                raise NotAnswered(PassOnReason.FAILED) from None
            if found is not None:
                return found
        raise NotAnswered(PassOnReason.WRITES_PENDING)

    async def _rows(self, question: Question, ask: Callable[[Question], Awaitable[Mapping[str, Any]]]) -> Any:
        """Rows that are as MLflow's own at this moment. Raises NotAnswered."""
        ids = [str(id) for id in question.experiment_ids]
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                copies = await self.copies.cover(ids)
                if isinstance(question, MetricQuestion) and question.view == "ASSESSMENTS":
                    await self.copies.cover_assessments(ids)
                if question.needs_types and await self.copies.prove_types(ids):
                    question = replace(question, types_are_certain=True)
        except TimeoutError:
            raise NotAnswered(PassOnReason.WRITES_PENDING) from None
        except MirrorAway:
            raise NotAnswered(PassOnReason.INDEX_AWAY) from None
        found = await self._asked(ask(question))
        if not self.copies.stand(copies):
            raise NotAnswered(PassOnReason.INDEX_AWAY)
        if "doubt" in found:
            raise NotAnswered(PassOnReason(found["doubt"]))
        if question.types_are_certain and not self.copies.types_hold(ids):
            raise NotAnswered(PassOnReason.SPAN_TYPES)
        return found["rows"]

    async def _asked(self, asking: Awaitable[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Raises NotAnswered: the rows can't be asked."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asking
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
