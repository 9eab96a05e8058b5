"""DuckDB and ClickHouse, filled with the same spans in different order and batches: the same answers."""

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from collector.index.clickhouse import kept
from collector.index.duckdb.lookups import DuckdbTables
from collector.index.queries.stats import ENTITIES
from collector.index.queries.tables import ERROR_SORTS, SESSION_SORTS, TRACE_SORTS
from collector.index.sql import answers
from collector.index.sql.answers import SqlTables
from collector.model.experiment import ExperimentReference
from collector.spans.score_facts import ScoreFact
from collector.spans.values import SpanFacts
from tests.support.clickhouse_rows import FilledTables, put_rows, put_score_rows, tables_on
from tests.support.clickhouse_server import ClickhouseStage
from tests.support.indexed import BEGIN_NS, SECOND, asked, made_scores, made_spans, put, put_scores, store_in

pytestmark = pytest.mark.scale
SHOP, DESK = ExperimentReference(id="1", name="shop"), ExperimentReference(id="2", name="desk")
SEEDS = range(250)


@dataclass(frozen=True)
class Both:
    """The same content on both engines: DuckDB, and ClickHouse as one server and as a cluster, by name."""

    duckdb: SqlTables
    clickhouse: Mapping[str, SqlTables]

    def say(self, ask: Callable[[SqlTables], Any]) -> Any:
        """The answer, which is the same on both."""
        ours = ask(self.duckdb)
        for name, tables in self.clickhouse.items():
            difference = _difference(ours, ask(tables))
            assert difference is None, f"{name}: {difference}"
        return ours


def _difference(one: Any, other: Any, place: str = "") -> str | None:
    """Where two answers differ first. A sum of floats depends on their order, in its last digits."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        parts = [_difference(one[key], other[key], f"{place}.{key}") for key in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = [_difference(*pair, f"{place}[{at}]") for at, pair in enumerate(zip(one, other, strict=True))]
    elif isinstance(one, float) and isinstance(other, float):
        parts = [None if math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-15) else "differs"]
        parts = [part and f"{place}: {one!r} != {other!r}" for part in parts]
    else:
        same = one == other and type(one) is type(other)
        parts = [None if same else f"{place}: {one!r} != {other!r}"]
    return next(filter(None, parts), None)


def _batches(spans: Sequence[SpanFacts], choose: random.Random) -> list[list[SpanFacts]]:
    """The spans shuffled, half of them twice, in batches: most traces come in several, and late."""
    sent = [*spans, *choose.sample(list(spans), len(spans) // 2)]
    choose.shuffle(sent)
    size = -(-len(sent) // 5)
    return [sent[begin : begin + size] for begin in range(0, len(sent), size)]


@pytest.fixture(scope="module")
def both(
    clickhouse: ClickhouseStage, clickhouse_cluster: ClickhouseStage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    with ExitStack() as stack, pytest.MonkeyPatch.context() as monkeypatch:
        # however little there is, and however new it is
        monkeypatch.setattr(kept, "WORTH_ROWS", 0)
        monkeypatch.setattr(kept, "QUIET_SECONDS", -1)
        store = stack.enter_context(store_in(tmp_path_factory.mktemp("index")))
        put(store, _shop(), experiment=SHOP, run_id="run-1")
        put(store, _desk(), experiment=DESK)
        for experiment in (SHOP, DESK):
            put_scores(store, _scores(experiment), experiment=experiment)
        on_servers: dict[str, SqlTables] = {}
        for servers in (clickhouse, clickhouse_cluster):
            tables = stack.enter_context(tables_on(servers))
            _fill(tables)
            assert tables.counts() == store.counts()
            name = servers.cluster or "one server"
            on_servers[name] = tables.db
            if servers.cluster:
                on_servers[f"{name}, day by day"] = tables.day_by_day()
        yield Both(DuckdbTables(store.db), on_servers)


@cache
def _shop() -> list[SpanFacts]:
    return made_spans(seed for seed in SEEDS if seed % 3)


@cache
def _desk() -> list[SpanFacts]:
    return made_spans(seed for seed in SEEDS if not seed % 3)


def _scores(experiment: ExperimentReference) -> list[ScoreFact]:
    seeds = [seed for seed in SEEDS if bool(seed % 3) == (experiment == SHOP)]
    return [score for seed in seeds for score in made_scores(seed)]


def _fill(tables: FilledTables) -> None:
    choose = random.Random(16)
    for experiment in (SHOP, DESK):
        put_score_rows(tables, _scores(experiment), experiment=experiment)
    for batch in _batches(_shop(), choose):
        put_rows(tables, batch, experiment=SHOP, run_id="run-1")
    for batch in _batches(_desk(), choose):
        put_rows(tables, batch, experiment=DESK)


@pytest.mark.parametrize("of", ENTITIES)
def test_every_metric_in_total_is_the_same(both: Both, of: str) -> None:
    both.say(lambda db: answers.stats(db, asked(of=of, metric=list(ENTITIES[of].metrics), bucket="10m")))


@pytest.mark.parametrize(
    ("of", "by"), [(of, by) for of, entity in ENTITIES.items() for by in entity.dimensions]
)
def test_every_metric_of_every_dimension_is_the_same(both: Both, of: str, by: str) -> None:
    metrics = list(ENTITIES[of].metrics)
    about: dict[str, Any] = {"of": of, "by": by, "metric": metrics, "top": 1000}
    if by == "experiment":  # among equals each engine has its own order
        about["order"] = "-turns" if of == "sessions" else f"-{metrics[0]}"
    both.say(lambda db: answers.stats(db, asked(**about)))
    series = {"top": 3, "order": by} if by != "experiment" else {}
    both.say(lambda db: answers.stats(db, asked(**about | {"bucket": "30m"} | series)))


FILTERS: list[dict[str, Any]] = [
    {"status": "ERROR"},
    {"service": ["shop", "desk"]},
    {"session": "s-1", "user": "ann"},
    {"model": "gpt*"},
    {"tool": "new\nline"},
    {"experiment_name": "shop"},
    {"agent": "planner"},
    {"min_duration_seconds": "5"},
    {"min_cost_usd": "0.003"},
    {"since": "-30m", "until": str(BEGIN_NS + 2700 * SECOND)},
    {"error": "city <n> not found"},
    {"tag": "tier=a=b"},
    {"model": "gpt-4o", "version": "1.1"},
    {"score": "helpful>0.5"},
]


@pytest.mark.parametrize("parameters", FILTERS, ids=str)
def test_filters_mean_the_same_rows(both: Both, parameters: dict[str, Any]) -> None:
    found = both.say(lambda db: answers.traces(db, asked(limit=1000, **parameters), Path()))
    assert found["traces"]
    both.say(lambda db: answers.sessions(db, asked(limit=1000, **parameters), Path()))
    both.say(lambda db: answers.overview(db, asked(**parameters)))


@pytest.mark.parametrize("descending", ["", "-"])
def test_tables_are_in_the_same_order_page_by_page(both: Both, descending: str) -> None:
    for ask, sorts in ((answers.traces, TRACE_SORTS), (answers.sessions, SESSION_SORTS)):
        for sort in sorts:
            about = asked(sort=f"{descending}{sort}", limit=1000)
            # cursors hold the engine's own numbers
            both.say(lambda db, ask=ask, about=about: list(ask(db, about, Path()).values())[0])
    for sort in ERROR_SORTS:
        about = asked(sort=f"{descending}{sort}")
        both.say(lambda db, about=about: answers.errors(db, about, Path()))


def test_comparisons_facets_and_one_session_are_the_same(both: Both) -> None:
    both.say(lambda db: answers.compare(db, asked(a__version="1.0", b__version="1.1", by="model", top=2)))
    both.say(lambda db: answers.compare(db, asked(a__since="-20m", b__until="-20m", of="tools", by="tool")))
    both.say(lambda db: answers.overview(db, asked(since="-20m")))
    both.say(lambda db: answers.facets(db, asked()))
    assert both.say(lambda db: answers.session(db, asked(experiment_id="1"), "s-1"))
    for allowed in (frozenset({"2"}), frozenset[str]()):
        both.say(lambda db, allowed=allowed: answers.traces(db, asked(experiments=allowed), Path()))
        both.say(lambda db, allowed=allowed: answers.facets(db, asked(experiments=allowed)))
    json.dumps(both.say(lambda db: answers.stats(db, asked(service="nobody's", bucket="auto", by="model"))))
