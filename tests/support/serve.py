"""Run an ASGI app on a real socket inside the test's own loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from tests.support.ports import free_port


@asynccontextmanager
async def serve(app: Any, *, port: int | None = None, **config: Any) -> AsyncIterator[str]:
    """Serve `app` with uvicorn until the block ends; yields its base url."""
    port = port or free_port()
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "http": "httptools",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "timeout_graceful_shutdown": 2,
    } | config
    server = uvicorn.Server(uvicorn.Config(app, **settings))
    # serve() itself would take over the signals of the test process
    running = asyncio.ensure_future(server._serve())
    while not server.started and not running.done():
        await asyncio.sleep(0.005)
    if running.done():
        running.result()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running
