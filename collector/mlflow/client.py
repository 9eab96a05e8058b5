"""MLflow as we speak to it: plain HTTP, never its Python package (seconds and hundreds of MB to import).

One client pool for lookups, delivery and summaries. Answers are returned, whatever their status; only
"no answer" is an error. Of each a bounded number of bytes is read, counted after inflation.
"""

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from collector.mlflow.traffic import Traffic
from collector.model.errors import Misconfigured, SidespanError
from collector.settings import MlflowSettings

# what OTLP recommends for a client; our look-ups need far less
# (https://opentelemetry.io/docs/specs/otlp/#otlphttp-response)
MAX_ANSWER_BYTES = 4 * 1024 * 1024
# of answers that hold traces or histories
MAX_CONTENT_BYTES = 64 * 1024 * 1024
# a larger one is no error's text: as Python objects, JSON takes many times its size
MAX_ERROR_BYTES = 256 * 1024
# of one step of reading: aiohttp inflates and buffers up to twice what one read asks for
READ_BYTES = 64 * 1024


class MlflowUnreachable(SidespanError):
    """No answer came: refused, timed out, cut off. The message says which, and names the server."""


class MlflowTimeout(MlflowUnreachable):
    """No answer came within the time that was set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowAnswer:
    """An HTTP answer; `is_cut`: there was more of it than the caller wanted to read."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    is_cut: bool = False

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty if it is none."""
        return self.document or {}

    @property
    def document(self) -> dict[str, Any] | None:
        """The body as a JSON object; None if it is none, or was cut."""
        if self.is_cut:
            return None
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None

    @property
    def error_code(self) -> str | None:
        """MLflow's own name of what went wrong, if it says one."""
        code = self.json().get("error_code") if len(self.body) <= MAX_ERROR_BYTES else None
        return None if code is None else str(code)

    @property
    def error(self) -> str:
        """What MLflow says, shortened: `error_code: message`, FastAPI's `detail`, or the text."""
        document = self.json() if len(self.body) <= MAX_ERROR_BYTES else {}
        text = (
            f"{document.get('error_code')}: {document.get('message')}"
            if "error_code" in document
            else str(document.get("detail") or self.body[:300].decode("utf-8", "replace"))
        )
        return text[:500]


# what gateways before MLflow answer where they don't know what became of a request
GATEWAY_STATUSES = frozenset({502, 503, 504})
# path, body and headers of a POST -> what is to be called when it has ended, with whether MLflow has answered
Notice = Callable[[str, bytes | None, Mapping[str, str]], Callable[[bool], None] | None]


@dataclass(slots=True)
class _Noticing:
    notice: Notice | None = None


class Mlflow:
    """A pool of connections to one MLflow server. `notice` is told of each POST.

    `traffic` counts its requests, unless it is for what nobody waits for (`behind_others`).
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url
        self.traffic = Traffic()
        self._noticing = _Noticing()
        self._is_counted = True

    @property
    def notice(self) -> Notice | None:
        """What is told of each POST over these connections."""
        return self._noticing.notice

    @notice.setter
    def notice(self, notice: Notice | None) -> None:
        self._noticing.notice = notice

    def behind_others(self) -> "Mlflow":
        """The same connections, for requests that don't count as somebody's who waits."""
        other = Mlflow(self._session, self.url)
        other.traffic, other._noticing, other._is_counted = self.traffic, self._noticing, False
        return other

    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> MlflowAnswer:
        """GET `path` below the server's URL; at most `max_bytes` are read. Raises MlflowUnreachable."""
        return await self._request(
            "GET",
            path,
            params=params,
            headers=headers,
            timeout_seconds=timeout_seconds,
            max_bytes=max_bytes,
        )

    async def post(
        self,
        path: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        timeout_seconds: float | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> MlflowAnswer:
        """POST `body` as it is. Redirects are answers, not followed. Raises MlflowUnreachable."""
        ended = self.notice and self.notice(path, body, headers)
        answered = False
        try:
            answer = await self._request(
                "POST", path, data=body, headers=headers, timeout_seconds=timeout_seconds, max_bytes=max_bytes
            )
            answered = answer.status not in GATEWAY_STATUSES
            return answer
        finally:
            if ended:
                ended(answered)

    async def post_json(
        self,
        path: str,
        document: Any,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> MlflowAnswer:
        """POST `document` as JSON. Raises MlflowUnreachable."""
        headers = {"content-type": "application/json", **(headers or {})}
        body = json.dumps(document).encode()
        return await self.post(
            path, body=body, headers=headers, timeout_seconds=timeout_seconds, max_bytes=max_bytes
        )

    async def _request(
        self, method: str, path: str, *, timeout_seconds: float | None, max_bytes: int, **kwargs: Any
    ) -> MlflowAnswer:
        if timeout_seconds is not None:
            kwargs["timeout"] = aiohttp.ClientTimeout(total=timeout_seconds)
        counted = self.traffic.request() if self._is_counted else nullcontext()
        try:
            with counted:
                async with self._session.request(
                    method, self.url + path, allow_redirects=False, **kwargs
                ) as answer:
                    body, is_cut = await _read(answer.content, max_bytes)
                    headers = {name.lower(): value for name, value in answer.headers.items()}
                    return MlflowAnswer(status=answer.status, body=body, headers=headers, is_cut=is_cut)
        except TimeoutError as error:
            raise MlflowTimeout(f"MLflow at {self.url} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise MlflowUnreachable(f"MLflow at {self.url} can't be reached: {error}") from error


async def _read(content: aiohttp.StreamReader, max_bytes: int) -> tuple[bytes, bool]:
    """Up to `max_bytes` of an answer, inflated, and whether there is more."""
    parts: list[bytes] = []
    size = 0
    while size <= max_bytes and (part := await content.read(min(READ_BYTES, max_bytes + 1 - size))):
        parts.append(part)
        size += len(part)
    return b"".join(parts)[:max_bytes], size > max_bytes


@asynccontextmanager
async def open_mlflow(settings: MlflowSettings, *, max_connections: int) -> AsyncIterator[Mlflow]:
    """The pool, until the block ends. Raises Misconfigured (certificate or secret file)."""
    timeout = aiohttp.ClientTimeout(
        total=settings.request_timeout_seconds, sock_connect=settings.connect_timeout_seconds
    )
    credential = authorization(settings)
    connector = aiohttp.TCPConnector(limit=max_connections, ssl=tls(settings))
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers={"authorization": credential} if credential else None,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    ) as session:
        yield Mlflow(session, settings.url)


def authorization(settings: MlflowSettings) -> str | None:
    """The value of the Authorization header for MLflow, or None. Raises Misconfigured."""
    if token := settings.token or _secret(settings.token_file, "mlflow.token_file"):
        return f"Bearer {token}"
    if settings.username is None:
        return None
    password = settings.password or _secret(settings.password_file, "mlflow.password_file")
    pair = f"{settings.username}:{password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _secret(file: Path | None, key: str) -> str | None:
    if file is None:
        return None
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Misconfigured(f"{key} = {str(file)!r} can't be read: {error.strerror}") from error
    if not secret or "\n" in secret:
        raise Misconfigured(f"{key} = {str(file)!r} must hold one line with the secret")
    return secret


def tls(settings: MlflowSettings) -> ssl.SSLContext | bool:
    """How certificates are checked, in aiohttp's form. Raises Misconfigured."""
    if settings.insecure_tls:
        return False
    if settings.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(settings.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"mlflow.ca_file = {str(settings.ca_file)!r}: {error}") from error
