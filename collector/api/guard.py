"""Our own paths: only under our own names, only from our own pages where they change something, and only for
clients who may. What they answer is kept by no cache.

    Host, Origin    403
    who asks        401 (own_admission.py)
    the policy      403, 404 (own_admission.py)
    the operator    403: an anonymous client changes this service from this machine only
    the handler     with the client's rights in the scope
"""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collector.api.audit import audit_line
from collector.api.own_admission import Caller, OwnAdmission
from collector.api.own_routes import OWN_OPERATIONS
from collector.api.reading import RIGHTS
from collector.model.parameters import BadParameter
from collector.settings import ServerSettings, is_loopback
from proxy import check_host, check_origin
from proxy.asgi import CHALLENGE
from proxy.catalog import UNKNOWN, Action, Operation
from proxy.errors import Refusal, denied
from proxy.headers import header_of
from proxy.logs import WritesRequests
from proxy.policy import ANONYMOUS, Client
from proxy.whole import whole

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CACHE_CONTROL = b"cache-control"


def guarded(own: ASGIApp, settings: ServerSettings, admission: OwnAdmission, log: WritesRequests) -> ASGIApp:
    """`own`, behind the checks above; what is refused and what changes something is written down."""

    async def app(scope: Scope, receive: Receive, give: Send) -> None:
        send = _uncached(give)
        foreign = _check_origin(scope, settings)
        if foreign is not None:
            await _refuse_foreign(foreign, scope, receive, send)
            return
        operation = OWN_OPERATIONS.classify(scope["method"], scope["path"])
        caller = Caller(client=Client(name=ANONYMOUS, roles=()))
        try:
            caller = await admission.identify(scope)
            scope[RIGHTS] = await admission.admit(caller, operation, scope)
            check_operator(caller.client, operation, settings)
        except Refusal as refusal:
            log.write(
                audit_line(
                    scope,
                    caller.client,
                    operation,
                    status=refusal.status,
                    rule=refusal.rule,
                    message=refusal.message,
                )
            )
            await _refuse(refusal, scope, receive, send)
            return
        status = await _status_of(own, scope, _whole(scope, receive), send)
        if operation.action is not Action.READ:
            log.write(audit_line(scope, caller.client, operation, status=status))

    return app


async def _status_of(own: ASGIApp, scope: Scope, receive: Receive, send: Send) -> int:
    """The status with which `own` has answered; 0: it hasn't."""
    status = 0

    async def noting(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        await send(message)

    await own(scope, receive, noting)
    return status


def check_operator(client: Client, operation: Operation, server: ServerSettings) -> None:
    """Raises Refusal (403) for an anonymous client that would change a service that other machines reach.

    Replay, backfill, rebuild and dropping dead letters are for those who run the service, whatever the policy
    gives to anonymous clients.
    """
    if client.source != "none" or operation.action is Action.READ or is_loopback(server.host):
        return
    if operation.route != UNKNOWN.route:  # of a wrong method the router says which is right
        raise denied(
            f"client {client.name!r} may not {operation.action.value} {operation.resource} without "
            f"credentials while the service listens on {server.host}: this operation is reserved for "
            'operators. Set auth.mode = "clients" and send a token (docs/policies.md)',
            "not for anonymous clients",
        )


def _uncached(send: Send) -> Send:
    """`send`, with answers that say nothing of caching kept by nobody."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if all(name.lower() != CACHE_CONTROL for name, _ in headers):
                message = {**message, "headers": [*headers, (CACHE_CONTROL, b"no-store")]}
        await send(message)

    return sending


def _whole(scope: Scope, receive: Receive) -> Receive:
    """As `whole`, with BadParameter: the routes answer that in their own form."""
    if scope["method"] in SAFE_METHODS:
        return receive
    counted = whole(scope, receive)

    async def read() -> Message:
        try:
            return await counted()
        except Refusal as refusal:
            declared = header_of(scope["headers"], b"content-length")
            raise BadParameter("content-length", declared, refusal.message) from refusal

    return read


def _check_origin(scope: Scope, settings: ServerSettings) -> str | None:
    host = header_of(scope["headers"], b"host") or ""
    refusal = check_host(host, settings.allowed_hosts)
    if refusal is None and scope["method"] not in SAFE_METHODS:
        refusal = check_origin(
            header_of(scope["headers"], b"origin"),
            scheme=scope["scheme"],
            host=host,
            public_origins=settings.public_origins,
            sec_fetch_site=header_of(scope["headers"], b"sec-fetch-site"),
        )
    return refusal


async def _refuse_foreign(message: str, scope: Scope, receive: Receive, send: Send) -> None:
    host = header_of(scope["headers"], b"host") or ""
    error = {"parameter": "host or origin", "value": host, "message": message}
    await JSONResponse({"error": error}, status_code=403)(scope, receive, send)


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    parameter = "path" if refusal.status == 404 else "client"
    document = {"error": {"parameter": parameter, "value": scope["path"], "message": refusal.message}}
    answer = JSONResponse(document, status_code=refusal.status)
    if refusal.challenge:
        answer.raw_headers += CHALLENGE
    await answer(scope, receive, send)
