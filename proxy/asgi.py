"""The proxy as one ASGI app: guard -> read the target -> classify -> decide -> stream."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.catalog import UNKNOWN, Operation, load_catalog
from proxy.errors import Refusal, bad_request, denied
from proxy.guard import check_host, check_origin
from proxy.headers import upward
from proxy.policy import decide
from proxy.stream import BrokenTransfer, ClientGone, Upstream, exchange, open_session
from proxy.target import check_query, read_path

_log = logging.getLogger("sidespan.proxy")

MAX_HEADERS = 100
MAX_HEADER_BYTES = 64 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HTTP_VERSIONS = frozenset({"1.0", "1.1"})  # the parser also takes a request line of HTTP/0.9
FORWARDED_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What became of one request; the texts come from closed sets. `upstream_seconds` None: never sent."""

    resource: str
    action: str
    decision: str
    status: int
    upstream_seconds: float | None


Observe = Callable[[Observation], None]


@asynccontextmanager
async def open_proxy(
    *,
    upstream: Upstream,
    allowed_hosts: Sequence[str],
    public_origins: Sequence[str],
    trusted_proxies: Sequence[str],
    observe: Observe,
) -> AsyncIterator[ASGIApp]:
    """The app for every path that isn't the service's own, until the block ends."""
    async with open_session(upstream) as session:
        yield _Proxy(session, upstream, allowed_hosts, public_origins, trusted_proxies, observe)


class _Proxy:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        upstream: Upstream,
        allowed_hosts: Sequence[str],
        public_origins: Sequence[str],
        trusted_proxies: Sequence[str],
        observe: Observe,
    ) -> None:
        self._session = session
        self._upstream = upstream
        self._authority = urlsplit(upstream.url).netloc
        self._allowed_hosts = allowed_hosts
        self._public_origins = public_origins
        self._trusted_proxies = frozenset(trusted_proxies)
        self._observe = observe
        self._catalog = load_catalog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # MLflow has no WebSockets
            await send({"type": "websocket.close", "code": 1008})
            return
        operation, decision, sent_at, status = UNKNOWN, "refused", None, 0
        try:
            self._guard(scope)
            path = read_path(scope["raw_path"])
            check_query(scope["query_string"])
            operation = self._catalog.classify(scope["method"], path)
            decision = "denied"
            _require(operation, scope["method"], path)
            decision = "allowed"
            sent_at = time.monotonic()
            status = await self._pass_on(scope, receive, send)
        except Refusal as refusal:
            status = refusal.status
            await _refuse(refusal, scope, send)
        except ClientGone:
            status = 499  # nginx's word for it; only the metric sees it
        except BrokenTransfer as broken:
            _log.warning("an answer of MLflow broke off", extra={"why": str(broken)})
            status = 502
            raise
        finally:
            seconds = None if sent_at is None else time.monotonic() - sent_at
            self._observe(
                Observation(
                    resource=operation.resource,
                    action=operation.action.value,
                    decision=decision,
                    status=status,
                    upstream_seconds=seconds,
                )
            )

    def _guard(self, scope: Scope) -> None:
        """Raises Refusal (400, 403) for a request that must not be looked at any further."""
        headers = scope["headers"]
        if len(headers) > MAX_HEADERS or sum(len(n) + len(v) for n, v in headers) > MAX_HEADER_BYTES:
            raise bad_request(f"over {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them")
        if scope["method"] not in FORWARDED_METHODS:
            raise Refusal(status=405, error_code="BAD_REQUEST", message=f"{scope['method']} is not allowed")
        if scope["http_version"] not in HTTP_VERSIONS:
            raise bad_request("only HTTP/1.0 and HTTP/1.1 are spoken here")
        if sum(name == b"host" for name, _ in headers) > 1:  # RFC 9112, section 3.2
            raise bad_request("more than one Host header")
        host = _header(scope, b"host") or ""
        refusal = check_host(host, self._allowed_hosts)
        # GraphQL reads arrive as POST, and its GETs are not checked by MLflow either
        if refusal is None and (scope["method"] not in SAFE_METHODS or scope["path"] == "/graphql"):
            refusal = check_origin(
                _header(scope, b"origin"),
                scheme=scope["scheme"],
                host=host,
                public_origins=self._public_origins,
                sec_fetch_site=_header(scope, b"sec-fetch-site"),
            )
        if refusal is not None:
            raise denied(refusal)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> int:
        peer = scope["client"][0] if scope.get("client") else ""
        headers = upward(
            scope["headers"],
            peer=peer,
            scheme=scope["scheme"],
            host=_header(scope, b"host") or "",
            upstream_authority=self._authority,
            authorization=self._upstream.authorization,
            trusted=peer in self._trusted_proxies,
        )
        query = scope["query_string"]
        return await exchange(
            self._session,
            self._upstream,
            method=scope["method"],
            target=scope["raw_path"] + (b"?" + query if query else b""),
            headers=headers,
            has_body=_has_body(scope),
            receive=receive,
            send=send,
        )


def _require(operation: Operation, method: str, path: str) -> None:
    """Raises Refusal (403) unless the policy lets the operation pass."""
    if method == "OPTIONS" and operation is UNKNOWN:  # a preflight, answered by MLflow's CORS layer
        return
    decision = decide(operation)
    if decision.allow:
        return
    what = (
        f"{method} {path[:200]} is not a route that this version of Sidespan knows"
        if operation is UNKNOWN
        else f"{operation.action.value} on {operation.resource} is denied"
    )
    raise denied(f"{what} ({decision.rule})")


def _has_body(scope: Scope) -> bool:
    """RFC 9112, section 6.3: a request has a body if and only if one of these headers says so."""
    if _header(scope, b"transfer-encoding") is not None:
        return True
    return (_header(scope, b"content-length") or "0") != "0"


def _header(scope: Scope, name: bytes) -> str | None:
    for found, value in scope["headers"]:
        if found == name:
            text: str = value.decode("latin-1")
            return text
    return None


async def _refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(refusal.body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if _has_body(scope):  # don't read an upload that was denied
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else refusal.body
    await send({"type": "http.response.body", "body": body})
