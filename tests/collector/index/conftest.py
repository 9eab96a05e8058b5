"""ClickHouse for the tests of the index: one server, and a cluster of two, for the whole run."""

from collections.abc import Iterator

import pytest

from tests.support.clickhouse_server import ClickhouseStage, clickhouse_stage


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
