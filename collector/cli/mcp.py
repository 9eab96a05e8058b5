"""`sidespan mcp`: the tools of `/-/mcp` over stdio, for clients that start a program.

A client of a running service as every other command: its address by --url, its token in SIDESPAN_TOKEN. It
starts whether the service runs or not; a tool says when it doesn't.
"""

import asyncio

from mcp.server.stdio import stdio_server

from collector.cli import remote
from collector.mcp.asking import Ask, Question, Reply
from collector.mcp.server import ServedTools, server_of


async def serve_stdio(url: str, *, max_tokens: int, feedback: bool) -> None:
    """Answer the client at the other end of stdin and stdout until it closes them."""
    server = server_of(ServedTools(ask=asking(url), max_tokens=max_tokens, feedback=feedback))
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def asking(url: str) -> Ask:
    """Asks the service at `url`."""

    async def ask(question: Question) -> Reply:
        return await asyncio.to_thread(_asked, url, question)

    return ask


def _asked(url: str, question: Question) -> Reply:
    query = f"?{question.query_string}" if question.query else ""
    try:
        status, body = remote.exchange(url, question.quoted_path + query, question.document)
    except remote.CannotReach as error:
        return Reply(status=503, body=remote.error_body(str(error)))
    return Reply(status=status, body=body)
