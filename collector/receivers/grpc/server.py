"""grpc.aio within bounds: the port, the limits of a connection, the end.

    connection   time for its handshake; closed when it is idle for long, or when the other end is silent
    pings        at most one in 10 s, or the connection is closed (ENHANCE_YOUR_CALM)
    metadata     its size
    calls        of one connection at a time; more wait at the client
    message      its size on the wire; gRPC itself refuses a larger one (RESOURCE_EXHAUSTED, no RetryInfo)
    codings      gzip; others are UNIMPLEMENTED

gRPC opens its port itself. It can't be handed one, neither by a supervisor nor by the process before this
one: while one Sidespan follows another the port is closed, and exporters try again (UNAVAILABLE).
Source: https://grpc.github.io/grpc/core/group__grpc__arg__keys.html.
"""

from collections.abc import Callable

import grpc

from collector.model.addresses import url_at
from collector.model.errors import Misconfigured
from collector.receivers.grpc.handler import OtlpCalls
from collector.receivers.grpc.health import HealthCalls
from collector.receivers.reception import Reception
from collector.settings import ServerSettings, Settings

MAX_CALLS_OF_A_CONNECTION = 256
PING_SECONDS = 60
PING_TIMEOUT_SECONDS = 20
PINGED_AT_MOST_EVERY_SECONDS = 10
# exporters send every 5 s or 60 s; who comes back later opens a new connection unnoticed
IDLE_SECONDS = 600
# bit 0: none, bit 2: gzip
_IDENTITY_AND_GZIP = 0b101


class GrpcServer:
    """The gRPC server of one service."""

    def __init__(self, settings: Settings, reception: Reception, ready: Callable[[], bool]) -> None:
        self._calls = OtlpCalls(reception)
        self._health = HealthCalls(ready)
        self._server = grpc.aio.server(
            handlers=(self._calls, self._health), options=tuple(_options(settings).items())
        )

    async def start(self, server: ServerSettings, port: int) -> str:
        """Listen; the URL for exporters. Raises OSError: the port is taken, or the address isn't ours."""
        host = server.host.strip("[]")
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        credentials = _credentials(server)
        try:
            if credentials is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"can't listen on {address}: another program may listen there") from error
        await self._server.start()
        return url_at(host, port, tls=credentials is not None)

    async def leave(self, seconds: float) -> None:
        """Take no new calls, answer those that are there, within `seconds`; then end the rest."""
        self._health.leave()
        await self._server.stop(seconds)

    def cut(self) -> None:
        """End the calls that are still being answered."""
        self._calls.cut()


def _options(settings: Settings) -> dict[str, int]:
    server, receiver = settings.server, settings.receiver
    return {
        # two processes at one port would share its clients
        "grpc.so_reuseport": 0,
        "grpc.max_receive_message_length": receiver.max_body_bytes,
        "grpc.per_message_decompression": 0,
        "grpc.compression_enabled_algorithms_bitset": _IDENTITY_AND_GZIP,
        "grpc.max_metadata_size": server.max_head_bytes,
        "grpc.absolute_max_metadata_size": server.max_head_bytes,
        "grpc.max_concurrent_streams": min(receiver.max_concurrent_requests, MAX_CALLS_OF_A_CONNECTION),
        "grpc.server_handshake_timeout_ms": round(server.header_timeout_seconds * 1000),
        "grpc.max_connection_idle_ms": IDLE_SECONDS * 1000,
        "grpc.keepalive_time_ms": PING_SECONDS * 1000,
        "grpc.keepalive_timeout_ms": PING_TIMEOUT_SECONDS * 1000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.min_ping_interval_without_data_ms": PINGED_AT_MOST_EVERY_SECONDS * 1000,
        "grpc.http2.max_ping_strikes": 2,
    }


def _credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """The port's certificate, as for HTTPS. Raises Misconfigured."""
    if settings.tls_certificate_file is None:
        return None
    key_file = settings.tls_key_file or settings.tls_certificate_file
    try:
        pair = (key_file.read_bytes(), settings.tls_certificate_file.read_bytes())
        clients = settings.tls_client_ca_file and settings.tls_client_ca_file.read_bytes()
    except OSError as error:
        raise Misconfigured(f"the certificate of the port can't be read: {error}") from error
    return grpc.ssl_server_credentials([pair], clients, require_client_auth=clients is not None)
