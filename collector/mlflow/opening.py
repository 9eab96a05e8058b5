"""MLflow as one service reaches it, from the settings."""

from contextlib import AbstractAsyncContextManager

from collector.mlflow.client import Mlflow, open_mlflow
from collector.mlflow.experiments import Experiments
from collector.settings import Settings

# look-ups must not wait behind deliveries
LOOK_UP_CONNECTIONS = 8


def open_mlflow_of(settings: Settings) -> AbstractAsyncContextManager[Mlflow]:
    """The connections to MLflow."""
    connections = 2 * settings.delivery.max_in_flight + LOOK_UP_CONNECTIONS
    return open_mlflow(settings.mlflow, max_connections=connections)


def experiments_of(settings: Settings, mlflow: Mlflow) -> Experiments:
    """What is known of MLflow's experiments."""
    return Experiments(
        mlflow,
        create=settings.routing.create_experiments,
        lookup_timeout_seconds=settings.mlflow.lookup_timeout_seconds,
    )
