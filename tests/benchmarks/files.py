"""An upstream that gives and takes files as fast as Python can, and keeps nothing of them."""

import sys

from aiohttp import web

CHUNK = b"x" * (1024 * 1024)


async def give(request: web.Request) -> web.StreamResponse:
    """As many mebibytes as the last part of the path says."""
    mebibytes = int(request.path.rpartition("/")[2])
    answer = web.StreamResponse(headers={"content-length": str(mebibytes * len(CHUNK))})
    await answer.prepare(request)
    for _ in range(mebibytes):
        await answer.write(CHUNK)
    return answer


async def take(request: web.Request) -> web.Response:
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
    return web.json_response({"bytes": size})


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/{path:.*}", give)
    app.router.add_put("/{path:.*}", take)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
