"""The proxy as one ASGI app: guard -> who asks -> read the target -> classify -> decide -> stream."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.access import Access
from proxy.ask import Ask, Passage
from proxy.catalog import UNKNOWN, Action, Operation, load_catalog
from proxy.clients import CREDENTIALS, MLFLOW_CREDENTIALS
from proxy.errors import Refusal, bad_request, denied, wrong_method
from proxy.guard import check_host, check_origin
from proxy.headers import Headers, header_of, list_of, peer_of, upward
from proxy.inspected import Inspected, has_body
from proxy.logs import Line
from proxy.policy import ANONYMOUS, Client
from proxy.questions import (
    Answering,
    question_of,
    send_answer,
    shows_credentials,
    write_begins,
)
from proxy.stream import BrokenTransfer, ClientGone, Tally, Upstream, UpstreamRequest, exchange, open_session
from proxy.target import check_query, read_path
from proxy.whole import whole
from proxy.written import ChangedTraces, Overheard, TellChanged, changed_trace_ids, changes_traces

_log = logging.getLogger("sidespan.proxy")

MAX_HEADERS = 100
MAX_HEADER_BYTES = 64 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HTTP_VERSIONS = frozenset({"1.0", "1.1"})  # the parser also takes a request line of HTTP/0.9
FORWARDED_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
DRAIN_BYTES = 4 * 1024 * 1024
DRAIN_SECONDS = 5.0
# answered before clients are authenticated; MLflow's clients and probes ask these first
PUBLIC_ROWS = frozenset({"GET /health", "GET /version", "GET /3.0/mlflow/server-info"})
# a file of a run may be a page of its author: it gets no origin to act in
SANDBOX: Headers = [(b"content-security-policy", b"sandbox"), (b"x-content-type-options", b"nosniff")]
# one header each: browsers read only the first challenge of a line
CHALLENGE: Headers = [
    (b"www-authenticate", b'Basic realm="sidespan", charset="UTF-8"'),
    (b"www-authenticate", b'Bearer realm="sidespan"'),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What became of one request; the texts come from closed sets. `upstream_seconds` None: never sent."""

    resource: str
    action: str
    decision: str
    status: int
    upstream_seconds: float | None


Observe = Callable[[Observation], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """How the proxy stands towards its clients."""

    allowed_hosts: Sequence[str]
    public_origins: Sequence[str] = ()
    trusted_proxies: Sequence[str] = ()
    root_path: str = ""
    # headers that say who a client is, beside Authorization: never MLflow's business
    identity_headers: frozenset[bytes] = frozenset()
    max_inspected_bytes: int = 32 * 1024 * 1024


@asynccontextmanager
async def open_proxy(
    *,
    upstream: Upstream,
    settings: ProxyOptions,
    access: Access,
    observe: Observe,
    tell_changed: TellChanged | None = None,
    answering: Answering | None = None,
) -> AsyncIterator[ASGIApp]:
    """The app for every path that isn't the service's own, until the block ends.

    `tell_changed` is called with the traces that a request has changed in MLflow, once MLflow has said so.
    `answering` is asked what it can answer in MLflow's place.
    """
    async with open_session(upstream) as session:
        yield _Proxy(session, upstream, settings, access, observe, tell_changed, answering)


@dataclass(slots=True, kw_only=True)
class _Exchange:
    """One request on its way."""

    started_at: float = field(default_factory=time.monotonic)
    client: Client = Client(name=ANONYMOUS, roles=())
    operation: Operation = UNKNOWN
    decision: str = "refused"
    rule: str = ""
    message: str = ""
    experiments: tuple[str, ...] = ()
    sent_at: float | None = None
    tally: Tally = field(default_factory=Tally)


class _Proxy:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        upstream: Upstream,
        settings: ProxyOptions,
        access: Access,
        observe: Observe,
        tell_changed: TellChanged | None,
        answering: Answering | None,
    ) -> None:
        self._session = session
        self._upstream = upstream
        self._settings = settings
        self._access = access
        self._authority = urlsplit(upstream.url).netloc
        self._trusted_proxies = frozenset(settings.trusted_proxies)
        self._private = settings.identity_headers
        if access.clients.asked:
            self._private |= {CREDENTIALS, MLFLOW_CREDENTIALS}
        self._observe = observe
        self._tell_changed = tell_changed
        self._answering, self._is_told = answering, bool(tell_changed or answering)
        self._catalog = load_catalog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # MLflow has no WebSockets
            await send({"type": "websocket.close", "code": 1008})
            return
        current = _Exchange()
        try:
            await self._handle(current, scope, whole(scope, receive), send)
        except Refusal as refusal:
            current.tally.status = refusal.status
            current.rule, current.message = refusal.rule, refusal.message
            if current.sent_at is not None or refusal.status >= 500:
                current.decision = "failed"
            elif refusal.status == 401:
                current.decision = "unauthenticated"
            await refuse(refusal, scope, receive, send)
        except ClientGone:
            current.decision, current.tally.status = "gone", 499  # nginx's word for it; nobody hears it
        except BrokenTransfer as broken:
            _log.warning("MLflow's answer was cut off", extra={"why": str(broken)})
            current.decision, current.tally.status, current.message = "failed", 502, str(broken)
            raise
        finally:
            self._write_down(current, scope)

    async def _handle(self, current: _Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard(scope)
        path = read_path(scope["raw_path"])
        check_query(scope["query_string"])
        method, body = scope["method"], Inspected(self._settings.max_inspected_bytes, receive)
        operation = current.operation = self._catalog.classify(method, path)
        if method in ("GET", "HEAD") and has_body(scope):  # MLflow would read parameters from it
            raise bad_request(f"{method} takes no body")
        preflight = method == "OPTIONS" and operation is UNKNOWN  # answered by MLflow's CORS layer
        if preflight or operation.row in PUBLIC_ROWS:
            passage = Passage(rule="public")
        else:
            current.client = await self._access.clients.identify(
                scope["headers"], peer_of(scope.get("client"))
            )
            if operation is UNKNOWN and (methods := self._catalog.methods(path)):
                raise wrong_method(method, methods)
            current.decision = "denied"
            passage = await self._access.gate.judge(self._ask(current.client, operation, path, scope, body))
        current.decision = "observed" if passage.observed else "allowed"
        current.rule, current.message = passage.rule, passage.observed
        current.experiments = passage.experiments
        if await self._answered(current, scope, passage, body, send):
            return
        await self._pass_on(current, scope, path, passage, body, receive, send)

    async def _pass_on(
        self,
        current: _Exchange,
        scope: Scope,
        path: str,
        passage: Passage,
        body: Inspected,
        receive: Receive,
        send: Send,
    ) -> None:
        operation = current.operation
        current.sent_at = time.monotonic()
        outgoing = self._outgoing(scope, operation, passage, body.content)
        if body.content is not None:
            current.tally.request_bytes += len(body.content)
        overheard = Overheard(receive) if self._is_told and changes_traces(operation) else None
        ended = write_begins(self._answering, operation)
        heard = overheard.receive if overheard else receive
        parties = (self._session, self._upstream, outgoing)
        try:
            await exchange(*parties, receive=heard, send=send, tally=current.tally)
        finally:
            written = body.content or overheard.content if overheard else None
            if ended is not None:
                ended(path, written, current.tally.status)
        if overheard and current.tally.status < 300:
            self._tell(scope, operation, path, written)
        if operation.resource in ("experiments", "datasets") and operation.action is not Action.READ:
            self._access.lookup.forget()

    async def _answered(
        self, current: _Exchange, scope: Scope, passage: Passage, body: Inspected, send: Send
    ) -> bool:
        """Whether the request is answered in MLflow's place. Raises ClientGone."""
        if self._answering is None:
            return False
        if (asked := await question_of(current.operation, scope, passage, body.read)) is None:
            return False
        answer = await self._answering.answer(
            asked,
            workspace=header_of(scope["headers"], b"x-mlflow-workspace") is not None,
            credentials=shows_credentials(scope, self._private),
        )
        if answer is None:
            return False
        current.tally.request_bytes = len(body.content or b"")
        current.tally.answer_bytes, current.tally.status = len(answer), 200
        await send_answer(answer, self._added(scope, current.operation), send)
        return True

    def _tell(self, scope: Scope, operation: Operation, path: str, body: bytes | None) -> None:
        ids = changed_trace_ids(operation, path, body)
        if ids and self._tell_changed:
            workspace = header_of(scope["headers"], b"x-mlflow-workspace")
            self._tell_changed(ChangedTraces(trace_ids=ids, workspace=workspace))

    def _ask(self, client: Client, operation: Operation, path: str, scope: Scope, body: Inspected) -> Ask:
        return Ask(
            client=client,
            operation=operation,
            method=scope["method"],
            path=path,
            query=scope["query_string"],
            content_type=list_of(scope["headers"], b"content-type"),
            content_encoding=list_of(scope["headers"], b"content-encoding"),
            workspace=header_of(scope["headers"], b"x-mlflow-workspace"),
            read_body=body.read if has_body(scope) else None,
        )

    def _guard(self, scope: Scope) -> None:
        """Raises Refusal (400, 403) for a request that must not be looked at any further."""
        headers = scope["headers"]
        if len(headers) > MAX_HEADERS or sum(len(n) + len(v) for n, v in headers) > MAX_HEADER_BYTES:
            raise bad_request(f"over {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them")
        if scope["method"] not in FORWARDED_METHODS:
            raise Refusal(status=405, error_code="BAD_REQUEST", message=f"{scope['method']} is not allowed")
        if scope["http_version"] not in HTTP_VERSIONS:
            raise bad_request("only HTTP/1.0 and HTTP/1.1 are supported")
        if sum(name == b"host" for name, _ in headers) > 1:  # RFC 9112, section 3.2
            raise bad_request("more than one Host header")
        host = header_of(scope["headers"], b"host") or ""
        refusal = check_host(host, self._settings.allowed_hosts)
        # GraphQL reads arrive as POST, and its GETs are not checked by MLflow either
        if refusal is None and (scope["method"] not in SAFE_METHODS or scope["path"] == "/graphql"):
            refusal = check_origin(
                header_of(scope["headers"], b"origin"),
                scheme=scope["scheme"],
                host=host,
                public_origins=self._settings.public_origins,
                sec_fetch_site=header_of(scope["headers"], b"sec-fetch-site"),
            )
        if refusal is not None:
            raise denied(refusal)

    def _outgoing(
        self, scope: Scope, operation: Operation, passage: Passage, read: bytes | None
    ) -> UpstreamRequest:
        peer = peer_of(scope.get("client"))
        body = read if passage.body is None else passage.body
        query = scope["query_string"] if passage.query is None else passage.query
        headers = upward(
            scope["headers"],
            peer=peer,
            scheme=scope["scheme"],
            host=header_of(scope["headers"], b"host") or "",
            upstream_authority=self._authority,
            authorization=self._upstream.authorization,
            trusted=peer in self._trusted_proxies,
            private=self._private_for(operation, scope),
        )
        if body is not None:  # its length is written anew
            headers = [(name, value) for name, value in headers if name != b"content-length"]
        if passage.answer is not None:  # what must be read can't be packed
            headers = [(name, value) for name, value in headers if name != b"accept-encoding"]
        return UpstreamRequest(
            method=scope["method"],
            target=scope["raw_path"] + (b"?" + query if query else b""),
            headers=headers,
            has_body=has_body(scope),
            body=body,
            answer=passage.answer,
            added=self._added(scope, operation),
            root_path=self._settings.root_path,
        )

    def _private_for(self, operation: Operation, scope: Scope) -> frozenset[bytes]:
        """The gateway's callers may send a provider's key, if they said who they are in MLflow's header."""
        if operation.resource == "gateway.invoke" and header_of(scope["headers"], MLFLOW_CREDENTIALS):
            return self._private - {CREDENTIALS}
        return self._private

    def _added(self, scope: Scope, operation: Operation) -> Headers:
        added: Headers = []
        if operation.resource == "artifacts" and scope["method"] in ("GET", "HEAD"):
            added += SANDBOX
        if self._access.clients.asked and operation.resource not in ("ui", "artifacts"):
            added.append((b"cache-control", b"no-store"))  # one client's answer is nobody else's
        return added

    def _write_down(self, current: _Exchange, scope: Scope) -> None:
        now = time.monotonic()
        upstream_seconds = None if current.sent_at is None else now - current.sent_at
        tally = current.tally
        self._observe(
            Observation(
                resource=current.operation.resource,
                action=current.operation.action.value,
                decision=current.decision,
                status=tally.status,
                upstream_seconds=upstream_seconds,
            )
        )
        self._access.log.write(
            Line(
                client=current.client.name,
                source=current.client.source,
                peer=peer_of(scope.get("client")),
                method=scope["method"],
                path=scope["raw_path"][:1024].decode("latin-1"),
                resource=current.operation.resource,
                action=current.operation.action.value,
                experiments=current.experiments,
                decision=current.decision,
                rule=current.rule,
                status=tally.status,
                request_bytes=tally.request_bytes,
                answer_bytes=tally.answer_bytes,
                seconds=now - current.started_at,
                message=current.message,
            )
        )


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a refusal, in MLflow's error form."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(refusal.body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if refusal.challenge:
        headers += CHALLENGE
    if refusal.methods:
        headers.append((b"allow", ", ".join(refusal.methods).encode()))
    if has_body(scope):  # the connection can't be used again before all of an upload was read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else refusal.body
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if has_body(scope) and header_of(scope["headers"], b"expect") is None:
        await _drain(receive)
    await send({"type": "http.response.body", "body": b""})


async def _drain(receive: Receive) -> None:
    """Take some more of a denied upload: a client that is cut off while it sends doesn't read the answer."""
    size = 0
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while size < DRAIN_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
