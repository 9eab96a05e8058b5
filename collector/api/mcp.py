"""The Model Context Protocol over HTTP.

POST /-/mcp     Streamable HTTP without sessions; tools ask our own routes in the client's name

404   mcp.enabled is false
501   the extra `mcp` is not installed
"""

import asyncio
import sys
from importlib import import_module

from starlette.requests import Request
from starlette.responses import Response

from collector.answers.opening import Answers
from collector.api.error_answers import error_answer
from collector.api.in_process import asking_as
from collector.api.own_route import OwnRoute

SERVING = "collector.mcp.http"
INSTALL = "the extra is missing: pip install 'sidespan[server,mcp]'"


async def _serve(request: Request, answers: Answers) -> Response:
    settings = answers.mcp
    if not settings.enabled:
        return error_answer(404, {"parameter": "mcp.enabled", "value": False, "message": "is switched off"})
    if SERVING not in sys.modules:  # the SDK takes a second to load; other requests go on meanwhile
        try:
            await asyncio.to_thread(import_module, SERVING)
        except ModuleNotFoundError as error:
            return error_answer(501, {"parameter": "mcp", "value": error.name, "message": INSTALL})
    from collector.mcp.http import McpResponse
    from collector.mcp.server import ServedTools

    served = ServedTools(
        ask=asking_as(request.scope),
        max_tokens=settings.max_answer_tokens,
        feedback=settings.feedback,
        count=answers.exposition.metrics.count_tool_call,
    )
    return McpResponse(served)


ROUTES = (
    OwnRoute(
        method="POST",
        path="/-/mcp",
        permission="sidespan:read",
        handler=_serve,
        summary="Speak the Model Context Protocol (Streamable HTTP): tools, resources and prompts for agents",
        body_description="One JSON-RPC message; docs/mcp.md",
    ),
)
