"""The provider and an OTLP receiver on one port of this machine.

Both remember: the provider each call with what it answered, which is the truth of a capture, and the receiver
each request as it came, so that the capture keeps how a framework splits its spans.
"""

import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import ClientSession, web

from tests.data.capture.provider import anthropic, gemini, openai
from tests.data.capture.provider.script import Ask, Reply, Tokens, reply, subject

# where MLflow's SDK writes what it knows of a trace as a whole
TRACES = "/api/3.0/mlflow/traces"
MAX_BODY_BYTES = 100_000_000


@dataclass
class Recorded:
    """What happened while a scenario ran. `calls` are in the form that a capture's truth keeps."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    traces: list[bytes] = field(default_factory=list)
    logs: list[bytes] = field(default_factory=list)
    written: list[dict[str, Any]] = field(default_factory=list)

    def add(self, api: str, ask: Ask, made: Reply, tokens: Tokens | None) -> None:
        self.calls.append(
            {
                "asks": made.asks,
                "api": api,
                "requested": ask.model,
                "answering": None if made.finish == "error" else made.model,
                "finish": made.finish,
                "tokens": asdict(tokens) if tokens else None,
            }
        )


def application(recorded: Recorded, mlflow_url: str | None = None) -> web.Application:
    """The routes of all providers and of OTLP over HTTP, under whatever prefix a framework puts before.

    With `mlflow_url`, everything else is passed on to that MLflow.
    """
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app["recorded"] = recorded
    app.router.add_post("/{before:.*}v1/traces", _record(recorded.traces))
    app.router.add_post("/{before:.*}v1/logs", _record(recorded.logs))
    app.router.add_post("/{before:.*}v1/metrics", _record([]))
    app.router.add_post("/{before:.*}chat/completions", _chat)
    app.router.add_post("/{before:.*}responses", _responses)
    app.router.add_post("/{before:.*}embeddings", _embeddings)
    app.router.add_post("/{before:.*}v1/messages", _messages)
    app.router.add_post("/{before:.*}models/{model}:{method}", _gemini)
    if mlflow_url:
        app.router.add_route("*", "/{path:.*}", _pass_on(recorded, mlflow_url))
    return app


@asynccontextmanager
async def running(recorded: Recorded, port: int, mlflow_url: str | None = None) -> AsyncIterator[None]:
    runner = web.AppRunner(application(recorded, mlflow_url))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


def _record(into: list[bytes]) -> Callable[[web.Request], Any]:
    async def record(request: web.Request) -> web.Response:
        body = await request.read()  # aiohttp has undone the content encoding
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        elif request.headers.get("content-encoding") == "deflate" and body[:1] == b"\x78":
            body = zlib.decompress(body)
        if body:
            into.append(body)
        return web.Response(content_type="application/x-protobuf")

    return record


def _pass_on(recorded: Recorded, mlflow_url: str) -> Callable[[web.Request], Any]:
    """Whatever is written about traces is kept."""

    async def pass_on(request: web.Request) -> web.Response:
        body, path = await request.read(), request.path_qs
        if request.method in ("POST", "PATCH") and path.startswith(TRACES):
            recorded.written.append({"method": request.method, "path": path, "body": body.decode()})
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        async with (
            ClientSession() as session,
            session.request(request.method, mlflow_url + path, data=body or None, headers=headers) as answer,
        ):
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )

    return pass_on


async def _chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    ask = openai.chat_ask(body)
    made = reply(ask)
    with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    told = made.tokens if with_usage or not ask.stream else None
    request.app["recorded"].add("openai.chat", ask, made, told)
    if made.finish == "error":
        return web.json_response(openai.FAILURE, status=400)
    if ask.stream:
        return await _stream(request, openai.chat_events(made, with_usage=with_usage))
    return web.json_response(openai.chat_answer(made))


async def _responses(request: web.Request) -> web.StreamResponse:
    ask = openai.responses_ask(await request.json())
    made = reply(ask)
    request.app["recorded"].add("openai.responses", ask, made, made.tokens)
    if made.finish == "error":
        return web.json_response(openai.FAILURE, status=400)
    if ask.stream:
        return await _stream(request, openai.responses_events(made))
    return web.json_response(openai.responses_answer(made))


async def _embeddings(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    # a list of numbers is one text that the client has cut into tokens
    count = 1 if texts and isinstance(texts[0], int) else len(texts)
    _embedded(request, "openai.embeddings", body["model"], json.dumps(texts), count)
    return web.json_response(openai.embeddings_answer(body["model"], count))


async def _messages(request: web.Request) -> web.StreamResponse:
    ask = anthropic.ask(await request.json())
    made = reply(ask, writes_cache=True, reasons=False)
    request.app["recorded"].add("anthropic.messages", ask, made, made.tokens)
    if made.finish == "error":
        return web.json_response(anthropic.FAILURE, status=400)
    if ask.stream:
        return await _stream(request, anthropic.events(made))
    return web.json_response(anthropic.answer(made))


async def _gemini(request: web.Request) -> web.StreamResponse:
    body, model, method = await request.json(), request.match_info["model"], request.match_info["method"]
    if method in ("embedContent", "batchEmbedContents"):
        texts = body.get("requests", [body])
        _embedded(request, "gemini.embeddings", model, json.dumps(texts), len(texts))
        made_of = [gemini.embedding() for _ in texts]
        return web.json_response({"embeddings": made_of, "embedding": made_of[0]})
    ask = gemini.ask(model, body, stream=method == "streamGenerateContent")
    made = reply(ask)
    request.app["recorded"].add("gemini", ask, made, made.tokens)
    if made.finish == "error":
        return web.json_response(gemini.FAILURE, status=400)
    if ask.stream:
        return await _stream(request, [("", gemini.answer(made))])
    return web.json_response(gemini.answer(made))


def _embedded(request: web.Request, api: str, model: str, text: str, texts: int) -> None:
    ask = Ask(model=model, text=text)
    made = Reply(model=model, asks=subject(text), finish="stop")
    request.app["recorded"].add(api, ask, made, Tokens(input=8 * texts, output=0))


async def _stream(request: web.Request, events: Iterable[openai.Event]) -> web.StreamResponse:
    """Server-sent events; a text that is no object is sent as it is."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for name, said in events:
        text = json.dumps(said) if isinstance(said, Mapping) else said
        head = f"event: {name}\n" if name else ""
        await response.write(f"{head}data: {text}\n\n".encode())
    await response.write_eof()
    return response
