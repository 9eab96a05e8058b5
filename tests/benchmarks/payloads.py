"""What the benchmarks send: the captured agent run, each copy with ids and times of its own."""

from pathlib import Path

from tests.support.otlp import agent_export

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
      ["Content-Type"] = "application/x-protobuf", ["x-mlflow-experiment-id"] = "0"
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


def write_wrk_script(directory: Path, *, traces: int, count: int) -> Path:
    """A script for wrk that sends `count` different bodies in turn."""
    directory.mkdir(parents=True)
    for number in range(1, count + 1):
        (directory / str(number)).write_bytes(body(traces))
    script = directory / "post.lua"
    script.write_text(LUA.format(count=count, directory=directory))
    return script
