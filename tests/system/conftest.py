"""The service as a process, in front of the session's MLflow, with an experiment of its own."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.sidespan import Sidespan


@pytest.fixture
def experiment_id(mlflow_server: MlflowServer) -> str:
    return mlflow_server.create_experiment(f"system-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def sidespan(mlflow_server: MlflowServer, tmp_path: Path) -> Iterator[Sidespan]:
    """Started by the test that uses it."""
    service = Sidespan(data_dir=tmp_path / "data", mlflow_url=mlflow_server.url)
    yield service
    service.kill()
