"""The role `receive`: OTLP over HTTP and gRPC, or what refuses it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from starlette.types import ASGIApp

from collector.answers.health import takes_exports
from collector.api.receiver_admission import ReceiverAdmission
from collector.journal import Log
from collector.mlflow.experiments import Experiments
from collector.receivers.bounds import InFlightBounds
from collector.receivers.grpc.opening import NOT_RECEIVING, GrpcDoor, open_grpc
from collector.receivers.http import no_receiver
from collector.receivers.opening import http_receiver, open_reception
from collector.settings import Role, Settings
from collector.telemetry.metrics import Metrics
from proxy import Access


@asynccontextmanager
async def open_receivers(
    settings: Settings,
    log: Log,
    bounds: InFlightBounds,
    access: Access,
    experiments: Experiments,
    metrics: Metrics,
) -> AsyncIterator[tuple[ASGIApp, GrpcDoor]]:
    """Both receivers, until the block ends. Raises Misconfigured."""
    if Role.RECEIVE not in settings.roles:
        yield no_receiver(metrics), NOT_RECEIVING
        return
    reception = open_reception(
        settings,
        bounds=bounds,
        admission=ReceiverAdmission(access),
        exists=experiments.exists,
        append=log.append,
        metrics=metrics,
    )
    ready = partial(takes_exports, bounds, log)
    async with reception as opened, open_grpc(settings, opened, ready) as grpc:
        yield http_receiver(settings, opened), grpc
