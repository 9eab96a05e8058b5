"""An index of made-up traces to ask, and ClickHouse: one server, and a cluster of two, for the whole run."""

from collections.abc import Iterator
from typing import Any

import pytest

from collector.spans.summary import summarise
from collector.spans.summary_models import TraceSummary
from tests.support.clickhouse_rows import put_rows, tables_on
from tests.support.clickhouse_server import ClickhouseStage, clickhouse_stage
from tests.support.indexed import DESK, SEEDS, SHOP, made_spans, made_trace, put, store_in


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickhouseStage]:
    """One server; each test has a database of its own."""
    with clickhouse_stage(tmp_path_factory.mktemp("clickhouse")) as stage:
        yield stage


@pytest.fixture(scope="session")
def clickhouse_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickhouseStage]:
    """A cluster of two shards."""
    with clickhouse_stage(tmp_path_factory.mktemp("cluster"), shards=2) as stage:
        yield stage


@pytest.fixture(scope="module", params=["duckdb", pytest.param("clickhouse", marks=pytest.mark.scale)])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An index of made-up traces, on either engine."""
    shop, desk = (made_spans(seed for seed in SEEDS if bool(seed % 3) is own) for own in (True, False))
    if request.param == "clickhouse":
        with tables_on(request.getfixturevalue("clickhouse")) as tables:
            put_rows(tables, shop, experiment=SHOP, run_id="run-1")
            put_rows(tables, desk, experiment=DESK)
            yield tables
        return
    with store_in(tmp_path_factory.mktemp("index")) as store:
        put(store, shop, experiment=SHOP, run_id="run-1")
        put(store, desk, experiment=DESK)
        yield store


@pytest.fixture(scope="module")
def summaries() -> list[TraceSummary]:
    return [
        summarise(spans, trace_id=spans[0].trace_id, experiment_id="1" if seed % 3 else "2", max_spans=10**6)
        for seed in SEEDS
        if (spans := made_trace(seed))
    ]
