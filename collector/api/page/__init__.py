"""The pages at `/-/` and `/-/docs`: files of our own, nothing from any other host, nothing generated.

The scripts ask the paths of the API from the browser (app.js says which view asks what). Names and messages
in the answers come from outside, so they are set as text only, and the policy lets nothing run but our
scripts.
Charts are drawn by uPlot 1.6.32 (MIT), vendored from npm as it is: small, maintained, no dependencies.
"""

from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from collector.answers.opening import Answers
from collector.api.own_route import OwnRoute, Parameter

SCRIPT = "text/javascript; charset=utf-8"
STATIC = {
    "page.css": "text/css; charset=utf-8",
    "alerts.js": SCRIPT,
    "app.js": SCRIPT,
    "charts.js": SCRIPT,
    "health.js": SCRIPT,
    "live.js": SCRIPT,
    "overview.js": SCRIPT,
    "parts.js": SCRIPT,
    "runs.js": SCRIPT,
    "tables.js": SCRIPT,
    "trace.js": SCRIPT,
    "uplot.css": "text/css; charset=utf-8",
    "uplot.js": SCRIPT,
    "uplot.LICENSE.txt": "text/plain; charset=utf-8",
    "docs.js": SCRIPT,
    "icon.svg": "image/svg+xml",
}
CONTENT_POLICY = ("default-src 'self'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'")
HEADERS = {
    "Content-Security-Policy": "; ".join(CONTENT_POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


async def _page(_: Request, __: Answers) -> Response:
    return Response(_read("index.html"), media_type="text/html", headers=HEADERS)


async def _docs(_: Request, __: Answers) -> Response:
    return Response(_read("docs.html"), media_type="text/html", headers=HEADERS)


async def _static(request: Request, _: Answers) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return PlainTextResponse("Not Found", status_code=404)
    return Response(_read(name), headers=HEADERS | {"Content-Type": STATIC[name]})


def load() -> None:
    """Read every file now: an upgrade beneath a running service must not mix files of two versions."""
    for name in ("index.html", "docs.html", *STATIC):
        _read(name)


@cache
def _read(name: str) -> bytes:
    return files(__name__).joinpath(name).read_bytes()


ROUTES = (
    OwnRoute(
        method="GET",
        path="/-/",
        permission="sidespan:read",
        handler=_page,
        summary="Open Sidespan's web page",
        media_type="text/html",
    ),
    OwnRoute(
        method="GET",
        path="/-/static/{name}",
        permission="sidespan:read",
        handler=_static,
        summary="Get a file of the web page",
        parameters=(Parameter(name="name", description="File name", place="path", required=True),),
        media_type="application/octet-stream",
    ),
    OwnRoute(
        method="GET",
        path="/-/docs",
        permission="sidespan:read",
        handler=_docs,
        summary="Open this API reference as a web page",
        media_type="text/html",
    ),
)
