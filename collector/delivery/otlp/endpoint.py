"""One OTLP/HTTP endpoint: its address, its credentials, and one request to it."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from collector.delivery.group import Request
from collector.delivery.otlp.answers import OtlpAnswer, read_answer
from collector.delivery.verdicts import Sent, Verdict
from collector.model.batch import Signal
from collector.model.errors import Misconfigured
from collector.otlp.media import Encoding, compress_gzip
from collector.settings import ForwardSettings, is_loopback
from collector.settings.forward import check_headers, with_headers
from collector.telemetry.metrics import Metrics

# more of an answer is not read: it says how much was rejected, or what is wrong
# (https://opentelemetry.io/docs/specs/otlp/#otlphttp-response allows a client to bound it)
MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpEndpoint:
    """A pool of connections to one backend."""

    session: aiohttp.ClientSession
    name: str
    urls: Mapping[Signal, str]
    compress: bool
    metrics: Metrics

    async def export(self, body: bytes, request: Request) -> Sent:
        """POST `body`, the copy of `request`, once. Never raises for what a network or a server can do."""
        headers = {"content-type": Encoding.PROTOBUF.value}
        if self.compress:
            body = await asyncio.to_thread(compress_gzip, body)
            headers["content-encoding"] = "gzip"
        started = time.monotonic()
        try:
            answer = await self._post(self.urls[request.signal], body, headers)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._count("unreachable")
            return _no_answer(self.name, error)
        self.metrics.forward.labels(target=self.name).observe(time.monotonic() - started)
        sent = read_answer(answer, request, target=self.name, now=datetime.now(UTC))
        self._count(sent.verdict.name.lower())
        return sent

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> OtlpAnswer:
        async with self.session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
            said = await _read_as_far_as_it_goes(answer.content)
            found = {name.lower(): value for name, value in answer.headers.items()}
            return OtlpAnswer(status=answer.status, headers=found, body=said)

    def _count(self, outcome: str) -> None:
        self.metrics.forward_requests.labels(target=self.name, outcome=outcome).inc()


async def _read_as_far_as_it_goes(content: aiohttp.StreamReader) -> bytes:
    """The body, or its beginning. The status has said by now what has become of the request."""
    read = bytearray()
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        while len(read) < MAX_ANSWER_BYTES and (part := await content.read(MAX_ANSWER_BYTES - len(read))):
            read += part
    return bytes(read)


def _no_answer(name: str, error: Exception) -> Sent:
    if isinstance(error, TimeoutError):
        return Sent(verdict=Verdict.PASSING, message=f"{name} did not answer in time", timed_out=True)
    return Sent(verdict=Verdict.PASSING, message=f"{name} can't be reached: {error}")


@asynccontextmanager
async def open_endpoint(settings: ForwardSettings, metrics: Metrics) -> AsyncIterator[OtlpEndpoint]:
    """The pool, until the block ends. Raises Misconfigured (certificates, the file with headers)."""
    timeout = aiohttp.ClientTimeout(
        total=settings.request_timeout_seconds, sock_connect=settings.connect_timeout_seconds
    )
    connector = aiohttp.TCPConnector(limit=settings.max_in_flight, ssl=_tls(settings))
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers=_headers(settings),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    ) as session:
        yield OtlpEndpoint(
            session=session,
            name=settings.name,
            urls={
                Signal.TRACES: settings.url + settings.traces_path,
                Signal.LOGS: settings.url + settings.logs_path,
            },
            compress=_compress(settings),
            metrics=metrics,
        )


def _compress(settings: ForwardSettings) -> bool:
    # on one machine gzip costs both sides more than the bytes it saves
    if settings.compression == "auto":
        return not is_loopback(urlsplit(settings.url).hostname or "")
    return settings.compression == "gzip"


def _headers(settings: ForwardSettings) -> dict[str, str]:
    return with_headers(_from_file(settings), settings.headers)


def _from_file(settings: ForwardSettings) -> dict[str, str]:
    if settings.headers_file is None:
        return {}
    place = _place(settings, "headers_file", settings.headers_file)
    try:
        lines = settings.headers_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{place} can't be read: {error}") from error
    pairs = [line.partition(":") for line in lines if line.strip() and not line.startswith("#")]
    if not all(separator for _, separator, _ in pairs):
        raise Misconfigured(f"{place}: each line must be `name: value`")
    found = {name.strip(): value.strip() for name, _, value in pairs}
    try:
        check_headers(found)
    except ValueError as error:
        raise Misconfigured(f"{place}: {error}") from error
    return found


def _tls(settings: ForwardSettings) -> ssl.SSLContext | bool:
    """How certificates are checked and shown, in aiohttp's form. Raises Misconfigured."""
    if settings.ca_file is None and settings.client_certificate_file is None:
        return True
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"{_place(settings, 'ca_file', settings.ca_file)}: {error}") from error
    if (certificate := settings.client_certificate_file) is not None:
        try:
            context.load_cert_chain(certificate, settings.client_key_file, password="")
        except (OSError, ssl.SSLError) as error:
            place = _place(settings, "client_certificate_file", certificate)
            raise Misconfigured(f"{place}, with its key: {error}") from error
    return context


def _place(settings: ForwardSettings, key: str, value: Path | None) -> str:
    return f"forward {settings.name!r}: {key} = {str(value)!r}"
