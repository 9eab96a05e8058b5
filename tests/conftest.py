"""Fixtures only; what they are made of is in tests/support."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.mlflow_server import MlflowServer

# an example on a busy machine may take longer than Hypothesis allows; pytest-timeout bounds each test
settings.register_profile("sidespan", deadline=None)
settings.load_profile("sidespan")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One real MLflow for the whole run; tests keep apart by their own experiments."""
    server = MlflowServer(directory=tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.stop()
