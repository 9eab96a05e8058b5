"""The pages at `/-/` and `/-/docs`: files of our own, nothing from any other host, nothing generated.

The scripts ask the paths of the API from the browser (app.js says which view asks what). Names and messages
in the answers come from outside, so they are set as text only, and the policy lets nothing run but our
scripts.
Charts are drawn by uPlot 1.6.32 (MIT), vendored from npm as it is: small, maintained, no dependencies.
"""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

SCRIPT = "text/javascript; charset=utf-8"
STATIC = {
    "page.css": "text/css; charset=utf-8",
    "app.js": SCRIPT,
    "charts.js": SCRIPT,
    "health.js": SCRIPT,
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


def routes() -> list[Route]:
    """`/-/` and its static files; the files are read once, here."""
    document = _read("index.html")
    contents = {name: _read(name) for name in STATIC}

    async def page(_: Request) -> Response:
        return Response(document, media_type="text/html", headers=HEADERS)

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in contents:
            return PlainTextResponse("Not Found", status_code=404)
        return Response(contents[name], headers=HEADERS | {"Content-Type": STATIC[name]})

    return [
        Route("/-/", page, methods=["GET"], name="page"),
        Route("/-/static/{name}", static, methods=["GET"], name="page_static"),
    ]


def _read(name: str) -> bytes:
    return files(__name__).joinpath(name).read_bytes()
