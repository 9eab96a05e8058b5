"""Questions about scores against the same numbers worked out score by score."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collector.index.duckdb.store import Store
from collector.index.queries.models import Compared, Overview, SessionPage, Stats, TracePage
from collector.index.queries.stats import ENTITIES
from collector.index.sql import answers
from collector.model.parameters import BadParameter
from collector.spans.score_facts import ScoreFact
from collector.spans.summary import summarise
from collector.spans.summary_models import TraceSummary
from tests.support.clickhouse_rows import put_rows, put_score_rows, tables_on
from tests.support.indexed import (
    DESK,
    SEEDS,
    SHOP,
    added,
    asked,
    close,
    made_scores,
    made_spans,
    made_trace,
    put,
    put_scores,
    quantile,
    scores_in,
    store_in,
    tables_of,
)


@pytest.fixture(scope="module", params=["duckdb", pytest.param("clickhouse", marks=pytest.mark.scale)])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Half of the scores come before their traces."""
    with ExitStack() as stack:
        if request.param == "clickhouse":
            store: Any = stack.enter_context(tables_on(request.getfixturevalue("clickhouse")))
            add, add_scores = put_rows, put_score_rows
        else:
            store = stack.enter_context(store_in(tmp_path_factory.mktemp("index")))
            add, add_scores = put, put_scores
        for experiment, rest in ((SHOP, (1, 2)), (DESK, (0,))):
            seeds = [seed for seed in SEEDS if seed % 3 in rest]
            scores = [score for seed in seeds for score in made_scores(seed)]
            add_scores(store, scores[::2], experiment=experiment)
            add(store, made_spans(seeds), experiment=experiment)
            add_scores(store, scores[1::2], experiment=experiment)
        add_scores(store, [nobodys()], experiment=SHOP)
        yield store


def nobodys() -> ScoreFact:
    """A score whose trace never comes."""
    return ScoreFact(
        key="x",
        trace_id="ab" * 16,
        span_id=None,
        name="helpful",
        value=100.0,
        label=None,
        error_type=None,
        source=None,
        judge="CODE",
        session=None,
        time_unix_ns=1,
    )


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A trace with its scores."""

    trace: TraceSummary
    scores: list[ScoreFact]

    def has(self, name: str, fits: Callable[[ScoreFact], bool] = lambda score: True) -> bool:
        return any(score.name == name and fits(score) for score in self.scores)


@pytest.fixture(scope="module")
def scored() -> list[Scored]:
    return [
        Scored(
            trace=summarise(
                spans,
                trace_id=spans[0].trace_id,
                experiment_id="1" if seed % 3 else "2",
            ),
            scores=made_scores(seed),
        )
        for seed in SEEDS
        if (spans := made_trace(seed))
    ]


Row = tuple[TraceSummary, ScoreFact]


def of_scores(group: list[Row]) -> dict[str, Any]:
    scores = [score for _, score in group]
    values = [score.value for score in scores if score.value is not None]
    judged = [score.label == "pass" for score in scores if score.label in ("pass", "fail")]
    return {
        "count": len(scores),
        "traces": len({score.trace_id for score in scores}),
        "score_mean": sum(values) / len(values) if values else None,
        "score_max": max(values, default=None),
        **{f"score_p{each}": quantile(values, each / 100) for each in (50, 90, 95, 99)},
        "pass_rate": sum(judged) / len(judged) if judged else None,
        "errors": sum(score.error_type is not None for score in scores),
        "error_rate": sum(score.error_type is not None for score in scores) / len(scores),
    }


DIMENSIONS: dict[str, Callable[[Row], list[Any]]] = {
    "score": lambda row: [row[1].name],
    "label": lambda row: [row[1].label],
    "source": lambda row: [row[1].source],
    "judge": lambda row: [row[1].judge],
    "experiment": lambda row: ["shop" if row[0].experiment.id == "1" else "desk"],
    "service": lambda row: [row[0].service],
    "version": lambda row: [row[0].service_version],
    "session": lambda row: [row[0].session],
    "user": lambda row: [row[0].user],
    "name": lambda row: [row[0].name],
    "status": lambda row: [row[0].status.value],
    "model": lambda row: list({use.model for use in row[0].models}) or [None],
    "tool": lambda row: list({use.tool for use in row[0].tools}) or [None],
}


@pytest.mark.parametrize("by", DIMENSIONS)
def test_numbers_of_scores_are_those_of_each_score(store: Store, scored: list[Scored], by: str) -> None:
    expected: defaultdict[Any, list[Row]] = defaultdict(list)
    rows = [(each.trace, score) for each in scored for score in each.scores]
    for row in rows:
        for key in DIMENSIONS[by](row):
            expected[key].append(row)
    metrics = list(of_scores(rows))
    found = answers.stats(tables_of(store), asked(of="scores", by=by, metric=metrics, top=1000))
    Stats.model_validate(found)
    assert {group["key"][by] for group in found["groups"]} == set(expected)
    for group in found["groups"]:
        for name, value in of_scores(expected[group["key"][by]]).items():
            assert close(group["values"][name], value), (group["key"], name)
    for name, value in of_scores(rows).items():
        assert close(found["total"][name], value), name
    assert set(metrics) | {"label_share"} == set(ENTITIES["scores"].metrics)


def test_the_share_of_each_label_is_among_the_labels_of_its_score(store: Store, scored: list[Scored]) -> None:
    counts = Counter((score.name, score.label) for each in scored for score in each.scores if score.label)
    found = answers.stats(
        tables_of(store), asked(of="scores", by=["score", "label"], metric="label_share", top=100)
    )
    shares = {
        (group["key"]["score"], group["key"]["label"]): group["values"]["label_share"]
        for group in found["groups"]
        if group["key"]["label"]
    }
    for (name, label), count in counts.items():
        of_name = sum(other for (named, _), other in counts.items() if named == name)
        assert close(shares[name, label], count / of_name)
    assert shares.keys() == counts.keys()


def test_shares_stay_what_they_are_where_only_the_largest_groups_are_asked_for(store: Store) -> None:
    asks: dict[str, Any] = {"of": "scores", "by": ["score", "label"], "metric": ["label_share", "count"]}
    asks |= {"bucket": "1d", "score": "tone", "order": "-count"}
    whole = answers.stats(tables_of(store), asked(**asks, top=100))
    first = answers.stats(tables_of(store), asked(**asks, top=1))
    assert first["groups"] == whole["groups"][:1]
    assert 0.4 < first["groups"][0]["series"][0]["values"]["label_share"] < 1
    sides = answers.compare(
        tables_of(store),
        asked(of="scores", by="label", metric="label_share", a__score="tone", b__score="correct"),
    )
    Compared.model_validate(sides)
    both = {group["key"]["label"]: group["values"]["label_share"] for group in sides["groups"]}
    assert close(both["kind"]["a"] + both["curt"]["a"], 1.0) and both["kind"]["b"] is None
    assert close(both["pass"]["b"] + both["fail"]["b"], 1.0)


def below(score: ScoreFact, bound: float) -> bool:
    return score.value is not None and score.value < bound


@pytest.mark.parametrize(
    ("condition", "meant"),
    [
        (["helpful"], lambda each: each.has("helpful")),
        (["help*"], lambda each: each.has("helpful")),
        (["correct=pass"], lambda each: each.has("correct", lambda score: score.label == "pass")),
        (["tone=k*"], lambda each: each.has("tone", lambda score: score.label == "kind")),
        (["helpful=0.5"], lambda each: each.has("helpful", lambda score: score.value == 0.5)),
        (["helpful>0.5"], lambda each: each.has("helpful", lambda score: (score.value or 0) > 0.5)),
        (["helpful>=0.5"], lambda each: each.has("helpful", lambda score: (score.value or 0) >= 0.5)),
        (["helpful<0.5"], lambda each: each.has("helpful", lambda s: s.value is not None and s.value < 0.5)),
        (
            ["helpful<=0.5"],
            lambda each: each.has("helpful", lambda s: s.value is not None and s.value <= 0.5),
        ),
        (["helpful=bad"], lambda each: False),
        (
            ["tone", "helpful>0.8"],
            lambda e: e.has("tone") or e.has("helpful", lambda s: (s.value or 0) > 0.8),
        ),
    ],
    ids=lambda value: "-or-".join(value) if isinstance(value, list) else "",
)
def test_a_filter_leaves_the_traces_with_such_a_score(
    store: Store, scored: list[Scored], condition: list[str], meant: Callable[[Scored], bool]
) -> None:
    chosen = [each for each in scored if meant(each)]
    found = answers.traces(tables_of(store), asked(limit=1000, score=condition), Path())
    assert isinstance(found, dict)
    TracePage.model_validate(found)
    assert {row["trace_id"] for row in found["traces"]} == {each.trace.trace_id for each in chosen}
    for of, count in (("traces", len(chosen)), ("spans", sum(each.trace.span_count for each in chosen))):
        assert (
            answers.stats(tables_of(store), asked(of=of, metric="count", score=condition))["total"]["count"]
            == count
        )
    within = answers.stats(tables_of(store), asked(of="scores", metric="count", trace_score=condition))
    assert within["total"]["count"] == sum(len(each.scores) for each in chosen)
    sessions = answers.sessions(tables_of(store), asked(limit=1000, score=condition), Path())
    assert isinstance(sessions, dict)
    assert sum(row["turns"] for row in sessions["sessions"]) == sum(bool(e.trace.session) for e in chosen)


def test_of_scores_the_filter_is_about_the_scores_themselves(store: Store, scored: list[Scored]) -> None:
    count = sum(score.name == "helpful" and (score.value or 0) > 0.5 for e in scored for score in e.scores)
    found = answers.stats(tables_of(store), asked(of="scores", metric="count", score="helpful>0.5"))
    assert found["total"]["count"] == count


@pytest.mark.parametrize("by", [["score"], ["label"], ["score", "label"], ["score", "service"]], ids=str)
def test_traces_are_set_apart_by_their_scores(store: Store, scored: list[Scored], by: list[str]) -> None:
    """A trace with two is in the group of each, once."""
    expected: defaultdict[tuple[Any, ...], list[TraceSummary]] = defaultdict(list)
    for each in scored:
        service = each.trace.service
        said = [{"score": one.name, "label": one.label, "service": service} for one in each.scores]
        pairs = {tuple(one[name] for name in by) for one in said}
        if by == ["label"]:
            pairs -= {(None,)}
        for key in pairs or {tuple(service if name == "service" else None for name in by)}:
            expected[key].append(each.trace)
    found = answers.stats(tables_of(store), asked(by=by, metric=["count", "cost_usd"], top=1000))
    keys = {tuple(group["key"][name] for name in by): group["values"] for group in found["groups"]}
    assert keys.keys() == expected.keys()
    for key, group in expected.items():
        assert keys[key]["count"] == len(group)
        assert close(keys[key]["cost_usd"], added(each.cost.usd for each in group))
    assert found["total"]["count"] == len(scored)


def test_rows_of_traces_list_their_scores(store: Store, scored: list[Scored]) -> None:
    found = answers.traces(tables_of(store), asked(limit=1000), Path())
    assert isinstance(found, dict)
    shown = {row["trace_id"]: row["scores"] for row in found["traces"]}
    for each in scored:
        assert [
            (score["name"], score["value"], score["span_id"]) for score in shown[each.trace.trace_id]
        ] == [(score.name, score.value, score.span_id) for score in each.scores]
        assert scores_in(store, each.trace.trace_id, None) == shown[each.trace.trace_id]
    assert scores_in(store, "ab" * 16, None) == []


def test_sessions_say_how_many_scores_their_turns_have(store: Any, scored: list[Scored]) -> None:
    expected: Counter[tuple[str, str | None]] = Counter()
    for each in scored:
        if each.trace.session:
            expected[each.trace.session, each.trace.experiment.id] += len(each.scores)
    found = answers.sessions(tables_of(store), asked(limit=1000), Path())
    assert isinstance(found, dict)
    SessionPage.model_validate(found)
    assert {(row["session"], row["experiment_id"]): row["scores"] for row in found["sessions"]} == expected


def test_the_overview_has_the_scores_of_the_traces_that_are_meant(store: Store, scored: list[Scored]) -> None:
    found = answers.overview(tables_of(store), asked(score="tone"))
    Overview.model_validate(found)
    counts = Counter(score.name for each in scored if each.has("tone") for score in each.scores)
    assert {group["key"]["score"]: group["values"]["count"] for group in found["scores"]} == counts


def test_a_client_sees_scores_of_its_experiments_only(store: Store, scored: list[Scored]) -> None:
    desk = [each for each in scored if each.trace.experiment.id == "2" and each.scores]
    limited = asked(experiments=frozenset({"2"}), of="scores", metric="count")
    assert answers.stats(tables_of(store), limited)["total"]["count"] == sum(
        len(each.scores) for each in desk
    )
    for allowed, seen in ((frozenset({"2"}), True), (frozenset({"1"}), False), (frozenset[str](), False)):
        assert bool(scores_in(store, desk[0].trace.trace_id, allowed)) is seen
    others = asked(experiments=frozenset({"2"}), score="helpful", limit=1000)
    rows = answers.traces(tables_of(store), others, Path())
    assert isinstance(rows, dict) and {row["experiment_id"] for row in rows["traces"]} == {"2"}


@pytest.mark.parametrize("text", ["", "helpful>", "helpful>high", "=pass", "helpful="])
def test_a_condition_that_cannot_be_read_is_named(store: Store, text: str) -> None:
    with pytest.raises(BadParameter) as raised:
        answers.traces(tables_of(store), asked(score=text), Path())
    assert raised.value.document["parameter"] == "score"


def test_late_shuffled_and_repeated_scores_count_once(tmp_path: Path) -> None:
    scores = [score for seed in range(40) for score in made_scores(seed)]
    spans = made_spans(range(40))
    everything = "SELECT * FROM scores ORDER BY trace_id, key"
    with store_in(tmp_path / "once") as store:
        put(store, spans)
        put_scores(store, scores)
        expected = store.db.execute(everything).fetchall()
    order = random.Random(7)
    sent = [*scores, *order.sample(scores, len(scores) // 2)]
    order.shuffle(sent)
    with store_in(tmp_path / "many") as store:
        for begin in range(0, len(sent), 9):
            put_scores(store, sent[begin : begin + 9])
        put(store, spans)
        put_scores(store, sent)
        found = store.db.execute(everything).fetchall()
    assert found == expected
    assert len(expected) == len(scores)
