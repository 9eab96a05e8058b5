"""Our own paths, only under our own names and, where they change something, from our own pages."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from collector.settings import Server
from proxy import check_host, check_origin

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def guarded(own: ASGIApp, settings: Server) -> ASGIApp:
    """`own`, behind the checks of Host and Origin; 403 for what they refuse."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        refusal = check_host(host, settings.allowed_hosts)
        if refusal is None and scope["method"] not in SAFE_METHODS:
            refusal = check_origin(
                headers.get(b"origin"),
                scheme=scope["scheme"],
                host=host,
                public_origins=settings.public_origins,
                sec_fetch_site=headers.get(b"sec-fetch-site"),
            )
        if refusal is None:
            await own(scope, receive, send)
            return
        error = {"parameter": "host or origin", "value": host, "message": refusal}
        await JSONResponse({"error": error}, status_code=403)(scope, receive, send)

    return app
