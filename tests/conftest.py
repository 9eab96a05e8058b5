"""Fixtures only, and the end of a run; what they are made of is in tests/support."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.forked import end_forkers
from tests.support.in_memory import folder_in_memory, remove
from tests.support.kafka_brokers import Broker, Brokers, kafka
from tests.support.longest import order_of
from tests.support.mlflow_server import MlflowServer
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

# an example on a busy machine may take longer than Hypothesis allows; pytest-timeout bounds each test.
# The same examples each time, so that a change is not refused for what it has not touched; others, by chance,
# are for --hypothesis-profile=explore
settings.register_profile("explore", deadline=None)
settings.register_profile("sidespan", deadline=None, derandomize=True)
settings.load_profile("sidespan")


SCALE_SECONDS = 600

# hundreds of tests start a service: importing it each time would take minutes
Sidespan.forks = True
# MLflow, in agents too, asks GitHub for the prices of each provider: it waits for seconds where there is no
# network, and counts other costs from one day to the next where there is
os.environ["MLFLOW_MODEL_CATALOG_URI"] = ""
IN_MEMORY = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep the files of a run in memory, if there is room and nobody has said where they belong."""
    elsewhere = config.option.basetemp or os.environ.get("PYTEST_DEBUG_TEMPROOT")
    if not elsewhere and not hasattr(config, "workerinput") and (folder := folder_in_memory()):
        config.option.basetemp = config.stash[IN_MEMORY] = folder


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Of a run that fails, what the failed tests wrote is there until the next run."""
    if exitstatus == pytest.ExitCode.OK and (folder := session.config.stash.get(IN_MEMORY, None)):
        remove(folder)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several workers, each takes a file after the other: the longest first, so that all end together.

    Tests with brokers and servers of their own may take longer than others before they count as hung.
    """
    for item in items:
        if item.get_closest_marker("scale") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SCALE_SECONDS))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: order_of(item.path))


def pytest_unconfigure() -> None:
    """Let go of what Hypothesis leaves in the garbage collector.

    Its callback there outlives the interpreter's modules, and with it everything that its globals lead to:
    also DuckDB's types, which the binding then reports as leaked, a hundred lines after pytest's last one.
    """
    gc.callbacks[:] = [each for each in gc.callbacks if not _of_hypothesis(each)]


def _of_hypothesis(callback: object) -> bool:
    return getattr(callback, "__module__", "").startswith("hypothesis.")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One real MLflow for the whole run; tests keep apart by their own experiments."""
    server = MlflowServer(directory=tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def one_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    """One real Kafka broker for the whole run; tests keep apart by the names of their topics.

    SIDESPAN_TEST_KAFKA names one that runs already.
    """
    if hosts := os.environ.get("SIDESPAN_TEST_KAFKA"):
        yield Brokers([Broker(id=1, folder=Path(), port=int(hosts.rpartition(":")[2]), controller=0)])
        return
    with kafka(tmp_path_factory.mktemp("kafka"), count=1) as brokers:
        yield brokers


@pytest.fixture(scope="session")
def shared_sidespan(
    mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sidespan]:
    """One service with the default settings, for tests that need no other and leave it running as it is."""
    service = Sidespan(data_dir=tmp_path_factory.mktemp("shared") / "data", mlflow_url=mlflow_server.url)
    service.grpc_port = free_port()
    service.start()
    yield service
    service.kill()


@pytest.fixture(scope="session", autouse=True)
def _forkers_end() -> Iterator[None]:
    yield
    end_forkers()
