"""A chat model with fixed answers that records exported traces: python model.py FILE PORT (needs aiohttp)."""

import sys
from pathlib import Path
from typing import Any

from aiohttp import web

USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 20,
    "total_tokens": 140,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}


async def complete(request: web.Request) -> web.Response:
    body = await request.json()
    calls = bool(body.get("tools")) and all(message["role"] != "tool" for message in body["messages"])
    message: dict[str, Any] = {"role": "assistant", "content": "It is sunny in Paris."}
    if calls:
        message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return web.json_response(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-2024-08-06",
            "choices": [choice],
            "usage": USAGE,
        }
    )


async def record(request: web.Request) -> web.Response:
    with Path(sys.argv[1]).open("ab") as file:  # serialized messages concatenate
        file.write(await request.read())
    return web.Response(content_type="application/x-protobuf")


app = web.Application(client_max_size=10**8)
app.router.add_post("/v1/chat/completions", complete)
app.router.add_post("/v1/traces", record)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None)
