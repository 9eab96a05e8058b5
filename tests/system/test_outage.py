"""MLflow goes away for 30 seconds under load: nothing is lost, memory is bounded, all arrives afterwards."""

import time
from pathlib import Path

import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export
from tests.support.senders import Senders
from tests.support.sidespan import Sidespan

OUTAGE_SECONDS = 30
MAX_RSS_BYTES = 400 * 2**20


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_outage_of_30_seconds_under_load_loses_nothing(tmp_path: Path) -> None:
    mlflow = MlflowServer(directory=tmp_path)
    service = Sidespan(data_dir=tmp_path / "data", mlflow_url=mlflow.url)
    mlflow.start()
    try:
        experiment_id = mlflow.create_experiment("outage")
        service.start()
        with Senders(
            service.port,
            headers={"x-mlflow-experiment-id": experiment_id},
            pause_seconds=0.08,
            build=agent_export,
        ) as senders:
            time.sleep(2)
            mlflow.stop()
            time.sleep(OUTAGE_SECONDS / 2)
            health = service.health()
            assert health["ready"], "taking data while MLflow is away is what the service is for"
            assert not health["parts"]["mlflow"]["ok"]
            assert "can't be reached" in health["parts"]["delivery"]["reason"]
            time.sleep(OUTAGE_SECONDS / 2)
            rss_bytes = service.rss_bytes()
            mlflow.start()
            time.sleep(1)
        service.wait_delivered(200)

        assert set(senders.statuses) == {200}
        assert len(senders.acknowledged) > 3000
        assert mlflow.spans(experiment_id) >= senders.acknowledged
        assert rss_bytes < MAX_RSS_BYTES
        assert service.health()["parts"]["journal"]["dead_letters"] == 0
    finally:
        service.kill()
        mlflow.stop()
