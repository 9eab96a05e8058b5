"""The receivers with what they need, from the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from collector.model.batch import Receipt
from collector.processors.redact import REDACTION_FAILED, redactor
from collector.receivers.bounds import InFlightBounds
from collector.receivers.decoder.client import Decoder, open_decoder
from collector.receivers.decoder.place import placing
from collector.receivers.http import otlp_endpoint
from collector.receivers.ingest import Append, Encoded, Exists, Prepare, Reserve, ingest
from collector.receivers.prepare import Rules
from collector.receivers.reception import Admission, Reception
from collector.settings import Settings
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.metrics import Metrics


def bounds_of(settings: Settings) -> InFlightBounds:
    """How much all receivers together may hold."""
    return InFlightBounds(
        max_requests=settings.receiver.max_concurrent_requests,
        max_bytes=settings.receiver.max_in_flight_bytes,
    )


@asynccontextmanager
async def open_reception(
    settings: Settings,
    *,
    bounds: InFlightBounds,
    admission: Admission,
    exists: Exists,
    append: Append,
    metrics: Metrics,
) -> AsyncIterator[Reception]:
    """What all receivers share, and the process that reads large bodies, until the block ends."""
    async with open_decoder(settings) as decoder:
        prepare = prepare_of(settings, decoder)

        async def take(request: Encoded, reserve: Reserve) -> Receipt:
            return await ingest(request, prepare=prepare, reserve=reserve, exists=exists, append=append)

        yield Reception(
            ingest=take,
            admit=admission.admit,
            anybody=admission.anybody,
            bounds=bounds,
            settings=settings.receiver,
            metrics=metrics,
        )


def http_receiver(settings: Settings, reception: Reception) -> ASGIApp:
    """OTLP over HTTP."""
    endpoint = otlp_endpoint(reception, allowed_hosts=settings.server.allowed_hosts)
    return _with_cors(endpoint, settings.receiver.cors_allowed_origins)


def prepare_of(settings: Settings, decoder: Decoder) -> Prepare:
    """How exports are read: each where it belongs, by the settings' rules."""
    return placing(rules_of(settings), decoder.prepare)


def rules_of(settings: Settings) -> Rules:
    """What the settings say about exports, whichever way they come."""
    redact = redactor(settings.processors, partial(FaultLog().tell_of, REDACTION_FAILED))
    return Rules(limits=settings.receiver, routing=settings.routing, redact=redact)


def _with_cors(receiver: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """The receiver for pages of other origins too, where the settings name some."""
    if not origins:
        return receiver
    return CORSMiddleware(
        receiver, allow_origins=origins, allow_methods=["POST"], allow_headers=["*"], max_age=7200
    )
