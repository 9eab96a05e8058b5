"""The pages at `/-/` and `/-/docs`: files of our own, nothing from any other host, nothing generated.

It reads `/-/ready`, `/-/traces/{id}` and `/-/dead-letters` from the browser. Names and messages in those
come from outside, so the script sets them as text only, and the policy lets nothing run but the script.
"""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

STATIC = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
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
