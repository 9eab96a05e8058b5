"""The archive on a store with the protocol of S3, as the service writes it and reads it back."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export, export
from tests.support.retained import Retained
from tests.support.s3 import S3Server, s3_server
from tests.support.sidespan import Sidespan
from tests.system.test_retention import _by_id, experiment, until

pytestmark = pytest.mark.slow

RULES = """
[cleanup]
archive_url = "{url}"
mlflow_share = 1.0
batch_traces = 2

[[retention]]
name = "old"
experiments = ["s3-*"]
older_than_seconds = 0
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


def service(folder: Path, mlflow: MlflowServer, s3: S3Server, url: str) -> Retained:
    """One that has not been started; each has a data folder of its own."""
    folder.mkdir()
    (folder / "sidespan.toml").write_text(RULES.format(url=url))
    arguments = ("--config", str(folder / "sidespan.toml"))
    sidespan = Sidespan(
        data_dir=folder / "data",
        mlflow_url=mlflow.url,
        arguments=arguments,
        environment=s3.environment,
        index=False,
    )
    return Retained(sidespan, mlflow)


def archived(retained: Retained, experiment_id: str) -> int:
    return sum(retained.state()["archive"]["experiments"].get(experiment_id, {}).values())


def trouble(retained: Retained) -> str:
    """What stops a run."""
    retained.begin()
    return str(retained.ended()["trouble"])


@pytest.mark.timeout(300)
def test_a_run_that_is_killed_goes_on_and_no_other_service_writes_between(
    mlflow_server: MlflowServer, s3: S3Server, tmp_path: Path
) -> None:
    url = f"s3://{s3.new_bucket()}/of-this-service"
    one, other = (service(tmp_path / name, mlflow_server, s3, url) for name in ("one", "other"))
    id = experiment(mlflow_server, "s3")
    try:
        one.service.start()
        one.send(export(traces=30, spans=2), id)
        one.send(agent_export(), id)
        before: dict[str, Any] = {trace_id: one.stored(trace_id) for trace_id in one.ids(id)}
        one.begin()
        until(lambda: archived(one, id) >= 4)
        one.service.kill()
        other.service.start()
        assert (
            f"another service writes to the archive: {socket.gethostname()} {one.service.data_dir}"
            in trouble(other)
        )
        other.service.kill()
        one.service.start()
        assert trouble(one) == "None"
        assert one.ids(id) == set()
        assert archived(one, id) == len(before)
        while one.restore(experiment_id=id)["left"]:
            pass
        one.service.wait_delivered(60)
        for trace_id, trace in before.items():
            again = one.stored(trace_id)
            assert again is not None
            assert _by_id(again["spans"]) == _by_id(trace["spans"])
    finally:
        one.service.kill()
        other.service.kill()


def test_an_archive_in_a_bucket_that_is_missing_stops_a_run_and_deletes_nothing(
    mlflow_server: MlflowServer, s3: S3Server, tmp_path: Path
) -> None:
    retained = service(tmp_path / "lost", mlflow_server, s3, "s3://no-such-bucket/archive")
    id = experiment(mlflow_server, "s3")
    try:
        retained.service.start()
        ids = retained.send(export(traces=2), id)
        assert "the archive can't be written" in trouble(retained)
        assert retained.ids(id) == set(ids)
    finally:
        retained.service.kill()
