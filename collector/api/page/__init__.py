"""The pages at `/-/` and `/-/docs`: files of our own and of vendor/, nothing from any other host.

The scripts ask the paths of the API from the browser (views.js lists the views). Names and messages
in the answers come from outside, so they are set as text only, and the policy lets nothing run but our
scripts. There is no build step: what is served are the files here.

vendor/ holds small, maintained libraries as npm has them, with their licences;
tests/collector/api/test_page.py knows the checksum of each.

preact.js  11.2.0   (MIT)         draws the views; hooks.js is its state within a view
htm.js     3.1.1    (Apache 2.0)  templates for it, in place of a compiler
uplot.js   1.6.32   (MIT)         charts
marked.js  18.2.1   (MIT)         reads markdown
"""

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from collector.answers.opening import Answers
from collector.api.own_route import OwnRoute, Parameter

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# images and sounds that a trace holds are data: addresses; none come from another host
CONTENT_POLICY = (
    "default-src 'self'",
    "img-src 'self' data:",
    "media-src 'self' data:",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
)
HEADERS = {
    "Content-Security-Policy": "; ".join(CONTENT_POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFile:
    """A file of the page, as it is and compressed."""

    plain: bytes
    compressed: bytes
    tag: str


def _static_names() -> dict[str, str]:
    """The media type of each file that a browser may ask for, by its name: `vendor/preact.js`."""
    ours, vendored = files(__name__), files(__name__).joinpath("vendor")
    names = [each.name for each in ours.iterdir()] + [f"vendor/{each.name}" for each in vendored.iterdir()]
    suffixes = {name: PurePosixPath(name).suffix for name in sorted(names)}
    return {name: MEDIA_TYPES[suffix] for name, suffix in suffixes.items() if suffix in MEDIA_TYPES}


STATIC = _static_names()


async def _page(request: Request, _: Answers) -> Response:
    return _answer(request, "index.html", "text/html; charset=utf-8")


async def _docs(request: Request, _: Answers) -> Response:
    return _answer(request, "docs.html", "text/html; charset=utf-8")


async def _static(request: Request, _: Answers) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return PlainTextResponse("Not Found", status_code=404)
    return _answer(request, name, STATIC[name])


def _answer(request: Request, name: str, media_type: str) -> Response:
    """The file; 304 if the browser has it, compressed if it takes that."""
    file = _read(name)
    headers = HEADERS | {"ETag": file.tag, "Content-Type": media_type}
    if file.tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return Response(file.compressed, headers=headers | {"Content-Encoding": "gzip"})
    return Response(file.plain, headers=headers)


def load() -> None:
    """Read every file now: an upgrade beneath a running service must not mix files of two versions."""
    for name in ("index.html", "docs.html", *STATIC):
        _read(name)


@cache
def _read(name: str) -> PageFile:
    plain = files(__name__).joinpath(name).read_bytes()
    tag = f'"{sha256(plain).hexdigest()[:20]}"'
    return PageFile(plain=plain, compressed=gzip.compress(plain, mtime=0), tag=tag)


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
        path="/-/static/{name:path}",
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
