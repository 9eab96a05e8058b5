"""No room on the disk: 503 while it lasts, recovery by itself, nothing lost."""

import os
import resource
import time

import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import all_spans, export
from tests.support.senders import post
from tests.support.sidespan import Sidespan

LIMIT_BYTES = 4 * 2**20


def _incompressible() -> bytes:
    request = export()
    all_spans(request)[0].attributes.add(key="noise").value.bytes_value = os.urandom(400_000)
    return request.SerializeToString()


@pytest.mark.slow
def test_a_full_disk_is_503_and_passes_by_itself(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    """A limit on the size of files stands for the full disk: the write fails inside SQLite either way."""
    headers = {"x-mlflow-experiment-id": experiment_id}
    sidespan.environment = {"SIDESPAN_DELIVERY__LINGER_SECONDS": "3"}
    sidespan.start()
    assert sidespan.process is not None
    pid = sidespan.process.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (LIMIT_BYTES, resource.RLIM_INFINITY))

    accepted, refused = 0, None
    for _ in range(40):
        status, answer_headers, _ = post(sidespan.port, _incompressible(), headers)
        if status != 200:
            refused = (status, answer_headers.get("retry-after"))
            break
        accepted += 1
    assert accepted > 0
    assert refused in ((503, "1"), (503, "2"))
    assert sidespan.process.poll() is None, "the process lives"

    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    deadline = time.monotonic() + 60
    while (status := post(sidespan.port, _incompressible(), headers)[0]) != 200:
        assert time.monotonic() < deadline, f"still {status}"
        time.sleep(0.2)
    sidespan.wait_delivered(60)
    assert len(mlflow_server.spans(experiment_id)) >= accepted + 1


@pytest.mark.slow
def test_the_journal_at_its_bound_is_503_until_mlflow_has_taken_some(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    headers = {"x-mlflow-experiment-id": experiment_id}
    sidespan.environment = {
        "SIDESPAN_JOURNAL__MAX_BYTES": str(2 * 2**20),
        "SIDESPAN_DELIVERY__LINGER_SECONDS": "4",
    }
    sidespan.start()
    statuses = [post(sidespan.port, _incompressible(), headers)[0] for _ in range(10)]
    assert statuses[0] == 200
    assert statuses[-1] == 503
    assert not sidespan.health()["ready"]
    accepted = statuses.count(200)

    sidespan.wait_delivered(60)
    assert len(mlflow_server.spans(experiment_id)) == accepted
    assert post(sidespan.port, _incompressible(), headers)[0] == 200
