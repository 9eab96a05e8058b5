"""kill -9 at any moment loses nothing that was answered with 200."""

import random
import time

import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.ports import free_port
from tests.support.senders import GrpcSenders, Senders
from tests.support.sidespan import Sidespan

ROUNDS = 20


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_was_answered_with_200_survives_20_kills_under_load(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    moment = random.Random(20)
    sidespan.environment = {"SIDESPAN_INDEX__ENABLED": "false"}  # test_index.py kills that
    sidespan.grpc_port = free_port()
    sidespan.start()
    headers = {"x-mlflow-experiment-id": experiment_id}
    with (
        Senders(sidespan.port, headers=headers, threads=2) as senders,
        GrpcSenders(sidespan.grpc_port, headers=headers, threads=2) as callers,
    ):
        for _ in range(ROUNDS):
            time.sleep(moment.uniform(0.05, 0.8))
            sidespan.kill()
            sidespan.start()
        senders.wait_for(250)
        callers.wait_for(250)
    sidespan.wait_delivered(120)

    stored = mlflow_server.spans(experiment_id)
    for each in (senders, callers):
        assert each.acknowledged - stored == set()
    assert sidespan.health()["parts"]["journal"]["dead_letters"] == 0


@pytest.mark.slow
def test_a_kill_between_answer_and_delivery_loses_nothing(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    sidespan.environment = {"SIDESPAN_DELIVERY__LINGER_SECONDS": "30"}
    sidespan.start()
    with Senders(sidespan.port, headers={"x-mlflow-experiment-id": experiment_id}) as senders:
        time.sleep(0.5)
    sidespan.kill()
    assert mlflow_server.spans(experiment_id) == set()

    sidespan.environment = {}
    sidespan.start()
    sidespan.wait_delivered(60)
    assert senders.acknowledged
    assert mlflow_server.spans(experiment_id) >= senders.acknowledged
