"""What a question costs over the Model Context Protocol, beside the same question to the API."""

import json
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.support.otlp import agent_export, all_spans
from tests.support.ports import free_port
from tests.support.senders import post
from tests.support.sidespan import Sidespan

TRACES = 200
CALLS = 300
WARM_UP = 20


def run(directory: Path) -> None:
    service = Sidespan(directory / "agents", f"http://127.0.0.1:{free_port()}")
    service.start()
    try:
        service.wait_index()
        exports = [agent_export() for _ in range(TRACES)]
        for export in exports:
            post(service.port, export.SerializeToString(), {"x-mlflow-experiment-id": "0"})
        trace_id = all_spans(exports[0])[0].trace_id.hex()
        time.sleep(5)  # until all is in the index
        print(f"== agents ({TRACES} traces, {CALLS} calls each, one connection)")
        _compare(service, "search_traces", {"limit": 10}, "/-/traces?limit=10")
        _compare(service, "get_trace", {"trace_id": trace_id}, f"/-/traces/{trace_id}")
        _compare(
            service,
            "get_statistics",
            {"of": "models", "by": "model", "metric": "duration_seconds_p95"},
            "/-/traces/stats?of=models&by=model&metric=duration_seconds_p95&top=10",
        )
    finally:
        service.stop()


def _compare(service: Sidespan, tool: str, arguments: dict[str, Any], path: str) -> None:
    with closing(HTTPConnection("127.0.0.1", service.port, timeout=30)) as connection:
        rest, mcp = _p95(lambda: _get(connection, path), lambda: _call(connection, tool, arguments))
    print(f"   {tool}: p95 {mcp * 1e3:.1f} ms over MCP, {rest * 1e3:.1f} ms by the API: {mcp / rest:.2f}")


def _p95(*ways: Callable[[], None]) -> list[float]:
    """The p95 of each, taken in turns: what else the machine does meets them all."""
    taken: list[list[float]] = [[] for _ in ways]
    for number in range(WARM_UP + CALLS):
        for way, seconds in zip(ways, taken, strict=True):
            started = time.perf_counter()
            way()
            if number >= WARM_UP:
                seconds.append(time.perf_counter() - started)
    return [statistics.quantiles(seconds, n=20)[-1] for seconds in taken]


def _get(connection: HTTPConnection, path: str) -> None:
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()


def _call(connection: HTTPConnection, tool: str, arguments: dict[str, Any]) -> None:
    """A request of revision 2026-07-28, as a client sends it."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    connection.request(
        "POST",
        "/-/mcp",
        body=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}),
        headers={
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call",
            "mcp-name": tool,
        },
    )
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    assert not json.loads(body)["result"].get("isError"), body
