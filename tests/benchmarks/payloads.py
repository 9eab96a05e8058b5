"""What the benchmarks send: the captured agent run, each copy with ids and times of its own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from collector.otlp.media import Encoding
from tests.support.otlp import agent_export, new_span_id, new_trace_id

SPANS_A_TRACE = 6

LUA = """
local bodies = {{}}
for i = 1, {count} do
  local file = io.open("{directory}/" .. i, "rb")
  bodies[i] = file:read("*a")
  file:close()
end
local requests, turn = {{}}, 0
init = function()
  for i, body in ipairs(bodies) do
    requests[i] = wrk.format("POST", "/v1/traces", {{
      ["Content-Type"] = "{content_type}", ["x-mlflow-experiment-id"] = "0"
    }}, body)
  end
end
request = function()
  turn = turn % #requests + 1
  return requests[turn]
end
"""


def body(traces: int) -> bytes:
    """One export of `traces` agent runs, 34 kB and 6 spans each."""
    return b"".join(agent_export().SerializeToString() for _ in range(traces))


def json_body(spans: int, *, attributes: int = 30) -> bytes:
    """One export in JSON as JavaScript's exporter writes it, 2.5 kB a span."""
    made = [_json_span(number, attributes) for number in range(spans)]
    document = {"resourceSpans": [{"scopeSpans": [{"spans": made}]}]}
    return json.dumps(document, separators=(",", ":")).encode()


def _json_span(number: int, attributes: int) -> dict[str, Any]:
    pairs = [
        {
            "key": f"gen_ai.attribute.{index}",
            "value": {"stringValue": f"value number {index} of {number}"}
            if index % 5
            else {"intValue": index * number},
        }
        for index in range(attributes)
    ]
    return {
        "traceId": new_trace_id().hex(),
        "spanId": new_span_id().hex(),
        "name": "chat model",
        "kind": 3,
        "startTimeUnixNano": str(1_700_000_000_000_000_000 + number),
        "endTimeUnixNano": str(1_700_000_000_000_000_900 + number),
        "attributes": pairs,
        "droppedAttributesCount": 0,
        "events": [],
        "droppedEventsCount": 0,
        "status": {"code": 1},
        "links": [],
        "droppedLinksCount": 0,
    }


def write_wrk_script(directory: Path, *, traces: int, count: int) -> Path:
    """A script for wrk that sends `count` different bodies in turn."""
    return write_script(directory, [body(traces) for _ in range(count)], Encoding.PROTOBUF)


def write_script(directory: Path, bodies: Sequence[bytes], encoding: Encoding) -> Path:
    """A script for wrk that sends `bodies` in turn."""
    directory.mkdir(parents=True)
    for number, content in enumerate(bodies, start=1):
        (directory / str(number)).write_bytes(content)
    script = directory / "post.lua"
    script.write_text(LUA.format(count=len(bodies), directory=directory, content_type=encoding.value))
    return script
