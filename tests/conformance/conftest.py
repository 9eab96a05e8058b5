"""The receiver on a real socket, appending to a sink."""

import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from collector.model.batch import Receipt
from collector.otlp.media import Encoding
from collector.receivers.bounds import InFlightBounds
from collector.receivers.decoder.place import placing
from collector.receivers.http import otlp_endpoint
from collector.receivers.ingest import Encoded, Sender, ingest
from collector.receivers.prepare import Rules
from collector.receivers.reception import Reception
from collector.settings import ReceiverSettings, RoutingSettings
from collector.telemetry.metrics import Metrics
from tests.support.serve import serve
from tests.support.sink import Sink

PROTOBUF = Encoding.PROTOBUF.value
JSON = Encoding.JSON.value


@dataclass(kw_only=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(kw_only=True)
class Service:
    """One receiver: its sink, its bounds, and a client."""

    url: str
    sink: Sink
    bounds: InFlightBounds
    client: aiohttp.ClientSession

    async def post(
        self,
        body: bytes,
        content_type: str | None = PROTOBUF,
        *,
        path: str = "/v1/traces",
        method: str = "POST",
        headers: dict[str, str] | None = None,
    ) -> Answered:
        given = dict(headers or {})
        if content_type is not None:
            given["content-type"] = content_type
        async with self.client.request(
            method,
            self.url + path,
            data=io.BytesIO(body),
            headers=given,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        ) as answer:
            return Answered(
                status=answer.status,
                headers={name.lower(): value for name, value in answer.headers.items()},
                body=await answer.read(),
            )


async def anybody(_: Any) -> Sender:
    return Sender()


def reception_of(sink: Sink, bounds: InFlightBounds, limits: ReceiverSettings) -> Reception:
    """What a receiver of either protocol needs, into the sink."""
    prepare = placing(Rules(limits=limits, routing=RoutingSettings()))

    async def take(request: Encoded, reserve: Callable[[int], None]) -> Receipt:
        return await ingest(
            request,
            prepare=prepare,
            reserve=reserve,
            exists=sink.exists,
            append=sink.append,
        )

    return Reception(ingest=take, admit=anybody, bounds=bounds, settings=limits, metrics=Metrics())


def receiver_app(sink: Sink, bounds: InFlightBounds, limits: ReceiverSettings) -> Any:
    reception = reception_of(sink, bounds, limits)
    return otlp_endpoint(reception, allowed_hosts=("localhost", "127.0.0.1"))


@pytest.fixture
def limits() -> ReceiverSettings:
    """A test that needs other limits overrides this fixture."""
    return ReceiverSettings()


@pytest.fixture
async def service(limits: ReceiverSettings) -> AsyncIterator[Service]:
    sink = Sink()
    bounds = InFlightBounds(max_requests=limits.max_concurrent_requests, max_bytes=limits.max_in_flight_bytes)
    async with (
        serve(receiver_app(sink, bounds, limits)) as url,
        aiohttp.ClientSession() as client,
    ):
        yield Service(url=url, sink=sink, bounds=bounds, client=client)
