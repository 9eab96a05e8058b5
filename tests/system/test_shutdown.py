"""SIGTERM: no new requests, what is in flight ends, the cursor is clean, the end comes within its bound."""

import signal
import time

import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.senders import Senders
from tests.support.sidespan import Sidespan


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
def test_a_stop_under_load_ends_cleanly_and_loses_nothing(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str, number: signal.Signals
) -> None:
    sidespan.start()
    with Senders(sidespan.port, headers={"x-mlflow-experiment-id": experiment_id}) as senders:
        time.sleep(1.0)
        started = time.monotonic()
        code = sidespan.stop(number)
        seconds = time.monotonic() - started
        time.sleep(0.2)
        acknowledged_at_the_end = set(senders.acknowledged)
        time.sleep(0.3)
    assert code == 0
    assert seconds < 22
    assert senders.acknowledged == acknowledged_at_the_end
    assert set(senders.statuses) <= {200, 503}

    sidespan.start()
    sidespan.wait_delivered(60)
    assert senders.acknowledged
    assert mlflow_server.spans(experiment_id) >= senders.acknowledged


def test_the_second_start_on_the_same_data_says_who_holds_it(sidespan: Sidespan) -> None:
    sidespan.start()
    assert sidespan.process is not None
    second = Sidespan(data_dir=sidespan.data_dir, mlflow_url=sidespan.mlflow_url)
    second.start(wait=False)
    assert second.process is not None
    assert second.process.wait(timeout=60) == 2
    said = second.log.read_text()
    assert f"is in use by process {sidespan.process.pid}" in said
    assert "Traceback" not in said
