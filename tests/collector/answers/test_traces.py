"""Where the answer on one trace comes from: index, else journal and MLflow, else what the index has."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.answers.rights import EVERYTHING, ReadRights
from collector.answers.trace_source import FoundTrace, Unanswered
from collector.answers.traces import TraceAnswers
from collector.spans.summary_models import RowsOfSpans, ScoreRow
from tests.support.spans import TRACE_ID, spanfacts

FOUND = FoundTrace(trace_id=TRACE_ID, spans=[spanfacts("a")])
AWAY = Unanswered(reason="no connection")


@dataclass
class Source:
    """A source that finds the same whatever it is asked for."""

    found: FoundTrace | Unanswered | None
    asked: list[str] = field(default_factory=list)

    async def read(self, trace_id: str) -> FoundTrace | Unanswered | None:
        self.asked.append(trace_id)
        return self.found

    async def export(self, trace_id: str) -> ExportTraceServiceRequest | Unanswered | None:
        self.asked.append(trace_id)
        return ExportTraceServiceRequest() if isinstance(self.found, FoundTrace) else self.found


@dataclass
class IndexOf:
    """An index that has a trace whole, in part, or not at all."""

    is_whole: bool = False
    has_some: bool = False
    experiments: list[Sequence[str] | None] = field(default_factory=list)
    scored: Sequence[ScoreRow] = ()

    async def whole(
        self, trace_id: str, rows: RowsOfSpans, *, experiments: Sequence[str] | None
    ) -> bytes | None:
        self.experiments.append(experiments)
        return b'{"from": "index"}' if self.is_whole else None

    async def anything(
        self, trace_id: str, rows: RowsOfSpans, *, experiments: Sequence[str] | None, why: str
    ) -> bytes | None:
        self.experiments.append(experiments)
        return json.dumps({"incomplete": why}).encode() if self.has_some else None

    async def scores(self, trace_id: str, *, experiments: Sequence[str] | None) -> Sequence[ScoreRow]:
        self.experiments.append(experiments)
        return self.scored


def answers(
    everything: Source, delivered: Source | None = None, index: IndexOf | None = None
) -> TraceAnswers:
    return TraceAnswers(
        everything=everything,
        delivered=delivered or everything,
        explain=lambda *_: {"spans": []},
        index=index,
    )


async def summary(of: TraceAnswers, rights: ReadRights = EVERYTHING) -> Any:
    answer = await of.summary(TRACE_ID, RowsOfSpans(most=10), rights=rights)
    return json.loads(answer) if isinstance(answer, bytes) else answer


async def test_a_trace_that_the_index_has_whole_is_asked_of_nobody_else() -> None:
    source = Source(FOUND)
    assert await summary(answers(source, index=IndexOf(is_whole=True))) == {"from": "index"}
    assert source.asked == []


async def test_what_the_index_has_in_part_is_read_from_journal_and_mlflow() -> None:
    found = await summary(answers(Source(FOUND), index=IndexOf(has_some=True)))
    assert (found["trace_id"], found["incomplete"]) == (TRACE_ID, None)


def score(name: str) -> ScoreRow:
    nothing = dict.fromkeys(("value", "label", "error_type", "source", "span_id", "session"))
    return ScoreRow(name=name, judge="HUMAN", time_unix_ns=1, **nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("in_index", "named"),
    [((score("ours"),), ["ours"]), ((), ["mlflows"])],
    ids=["the_index_knows_scores", "only_mlflow_does"],
)
async def test_scores_are_the_indexs_or_else_mlflows(in_index: Sequence[ScoreRow], named: list[str]) -> None:
    found = replace(FOUND, scores=(score("mlflows"),))
    told = await summary(answers(Source(found), index=IndexOf(scored=in_index)))
    assert [each["name"] for each in told["scores"]] == named


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, "MLflow does not have this trace"),
        (AWAY, "MLflow could not be queried: no connection"),
    ],
    ids=["gone_from_mlflow", "mlflow_away"],
)
async def test_where_nobody_else_has_it_the_index_answers_and_says_why_it_may_be_incomplete(
    found: Unanswered | None, why: str
) -> None:
    assert await summary(answers(Source(found), index=IndexOf(has_some=True))) == {"incomplete": why}


@pytest.mark.parametrize("index", [None, IndexOf()], ids=["without_index", "not_in_the_index"])
@pytest.mark.parametrize("found", [None, AWAY], ids=["unknown", "unanswered"])
async def test_where_the_index_has_nothing_the_other_sources_word_counts(
    found: Unanswered | None, index: IndexOf | None
) -> None:
    assert await summary(answers(Source(found), index=index)) == found


async def test_a_client_that_may_not_see_what_waits_gets_what_is_delivered() -> None:
    waiting, delivered = Source(FOUND), Source(None)
    of = answers(waiting, delivered)
    rights = ReadRights(pending=False)
    assert await summary(of, rights) is None
    assert await of.explanation(TRACE_ID, rights=rights) is None
    assert (waiting.asked, delivered.asked) == ([], [TRACE_ID, TRACE_ID])
    assert await of.explanation(TRACE_ID, rights=EVERYTHING) == b'{"spans":[]}'


@pytest.mark.parametrize(
    ("experiments", "sent"), [(None, None), (frozenset({"9", "10"}), ["10", "9"]), (frozenset(), [])]
)
async def test_the_index_is_asked_within_the_clients_experiments(
    experiments: frozenset[str] | None, sent: list[str] | None
) -> None:
    index = IndexOf()
    await summary(answers(Source(None), index=index), ReadRights(experiments=experiments))
    assert index.experiments == [sent, sent]
