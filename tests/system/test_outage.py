"""MLflow goes away for 30 seconds under load: nothing is lost, memory is bounded, all arrives afterwards."""

import time

import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export
from tests.support.senders import Senders
from tests.support.sidespan import Sidespan

OUTAGE_SECONDS = 30
MAX_RSS_BYTES = 400 * 2**20


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_outage_of_30_seconds_under_load_loses_nothing(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    sidespan.index = False  # test_index.py has outages of its own
    sidespan.start()
    with Senders(
        sidespan.port,
        headers={"x-mlflow-experiment-id": experiment_id},
        pause_seconds=0.15,
        build=agent_export,
    ) as senders:
        time.sleep(2)
        mlflow_server.stop()
        try:
            time.sleep(OUTAGE_SECONDS / 2)
            health = sidespan.health()
            assert health["ready"], "taking data while MLflow is away is what the service is for"
            assert not health["parts"]["mlflow"]["ok"]
            assert "can't be reached" in health["parts"]["delivery"]["reason"]
            time.sleep(OUTAGE_SECONDS / 2)
            rss_bytes = sidespan.rss_bytes()
        finally:
            mlflow_server.start()
        senders.wait_for(3000)
    sidespan.wait_delivered(200)

    assert set(senders.statuses) == {200}
    assert mlflow_server.spans(experiment_id) >= senders.acknowledged
    assert rss_bytes < MAX_RSS_BYTES
    assert sidespan.health()["parts"]["journal"]["dead_letters"] == 0
