"""One trace across two processes: a client calls a FastAPI service, in which an agent answers.

    python examples/web_service.py            # starts the service, calls it once, stops it

Look at: one trace, with the client's span as its root and the agent in the service. The service continues the
trace by the header `traceparent` (https://www.w3.org/TR/trace-context/). MLflow names it after the agent.
"""

import subprocess
import sys
import threading
import time
import urllib.request

from fastapi import FastAPI, Request
from offline_model import scripted
from opentelemetry import propagate, trace
from pydantic_ai import Agent

import instrumentation

app = FastAPI()
agent = Agent(
    scripted(("stock", {"item": "umbrella"}), answer="Three umbrellas are left."), name="shop assistant"
)


@agent.tool_plain
def stock(item: str) -> int:
    """How many are left."""
    return 3


@app.get("/ask")
async def ask(request: Request, question: str) -> dict[str, str]:
    # what an instrumentation of the framework would do: opentelemetry-instrumentation-fastapi, say
    caller = propagate.extract(dict(request.headers))
    tracer = trace.get_tracer("web_service")
    attributes = {"http.request.method": "GET", "http.route": "/ask"}
    with tracer.start_as_current_span("GET /ask", caller, trace.SpanKind.SERVER, attributes):
        return {"answer": str((await agent.run(question)).output)}


def serve() -> None:
    import uvicorn

    instrumentation.configure(service_name="shop-service", experiment="examples")
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    sys.stdin.readline()  # until the client is done
    server.should_exit = True
    thread.join()


def main() -> None:
    handle = instrumentation.configure(service_name="shop-client", experiment="examples")
    service = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert service.stdin is not None
    assert service.stdout is not None
    port = int(service.stdout.readline())
    attributes = {"http.request.method": "GET", "url.path": "/ask"}
    with trace.get_tracer("web_service").start_as_current_span("GET", attributes=attributes):
        headers: dict[str, str] = {}
        propagate.inject(headers)
        url = f"http://127.0.0.1:{port}/ask?question=How+many+umbrellas"
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            print(answer.read().decode())
    service.communicate("done\n", timeout=30)
    handle.flush()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
