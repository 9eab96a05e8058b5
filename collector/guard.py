"""Our own paths: only under our own names, only from our own pages where they change something, and only for
clients who may."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from collector.access import OWN, Entrance
from collector.parameters import BadParameter
from collector.settings import Server
from proxy import check_host, check_origin
from proxy.asgi import CHALLENGE
from proxy.errors import Refusal
from proxy.headers import header_of
from proxy.policy import ANONYMOUS, Client
from proxy.whole import whole

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def guarded(own: ASGIApp, settings: Server, entrance: Entrance) -> ASGIApp:
    """`own`, behind the checks of Host and Origin (403) and of the client (401, 403)."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _check_origin(scope, settings)
        if refusal is not None:
            error = {
                "parameter": "host or origin",
                "value": header_of(scope["headers"], b"host") or "",
                "message": refusal,
            }
            await JSONResponse({"error": error}, status_code=403)(scope, receive, send)
            return
        operation = OWN.classify(scope["method"], scope["path"])
        client = Client(name=ANONYMOUS, roles=())
        try:
            client = await entrance.to_own_path(scope)
        except Refusal as denial:
            entrance.write_down(
                scope, client, operation, status=denial.status, rule=denial.rule, message=denial.message
            )
            await _refuse(denial, scope, receive, send)
            return
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await own(scope, _whole(scope, receive), noting)
        if operation.action.value != "read":
            entrance.write_down(scope, client, operation, status=status)

    return app


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


def _check_origin(scope: Scope, settings: Server) -> str | None:
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


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    parameter = "path" if refusal.status == 404 else "client"
    document = {"error": {"parameter": parameter, "value": scope["path"], "message": refusal.message}}
    answer = JSONResponse(document, status_code=refusal.status)
    if refusal.challenge:
        answer.raw_headers += CHALLENGE
    await answer(scope, receive, send)
