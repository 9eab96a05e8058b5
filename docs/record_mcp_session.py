"""Records the session in docs/mcp.md: an agent's questions about the traces of examples/failing_tool.py.

python docs/record_mcp_session.py     starts Sidespan with its own MLflow, runs the example, asks, writes

The questions go through `sidespan mcp` and the SDK's client, as those of a coding agent do. Of the answers
those members are shown that `QUESTIONS` names.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "mcp.md"
BEGIN, END = "<!-- session: python docs/record_mcp_session.py -->\n", "<!-- end of session -->"
WHERE = {"experiment_name": "examples"}
FOUND = "the trace that search_traces found"
# what is asked, and which members of the answer are shown
QUESTIONS: tuple[tuple[str, str, dict[str, Any], tuple[str, ...]], ...] = (
    ("What is there?", "list_facets", WHERE, ("agent", "tool", "model", "value", "count")),
    (
        "What failed?",
        "search_traces",
        WHERE | {"status": "ERROR"},
        ("traces", "trace_id", "name", "status", "agent", "tools", "error_type", "error_message"),
    ),
    (
        "What did the failed spans get and raise?",
        "get_trace",
        {"trace_id": FOUND, "spans": "failed", "content": True, "max_characters": 500},
        ("spans", "name", "kind", "error_message", "content", "input", "exceptions", "stacktrace", "text"),
    ),
    (
        "Is it this tool only, and always?",
        "get_statistics",
        WHERE | {"of": "tools", "by": "tool", "metric": ["count", "error_rate", "recovered_retries"]},
        ("groups", "key", "tool", "values", "count", "error_rate", "recovered_retries"),
    ),
)
# of a stack trace, the end says where
SHOWN_LINES = 3
LINE_CHARACTERS = 120


async def record(url: str) -> str:
    """The transcript, as Markdown."""
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "collector", "mcp", "--url", url],
        env={"PYTHONPATH": str(ROOT)},
    )
    parts, trace_id = [], ""
    async with Client(command) as client:
        for question, tool, arguments, members in QUESTIONS:
            given = {key: trace_id if value == FOUND else value for key, value in arguments.items()}
            answer = (await client.call_tool(tool, given)).structured_content
            if tool == "search_traces":
                trace_id = answer["telemetry"]["traces"][0]["trace_id"]
            shown = _json(_part(answer["telemetry"], members))
            parts += [
                f"**{question}** `{tool}({json.dumps(given)})`",
                f"```json\n{shown}\n```",
                f"{answer['bound']['estimated_tokens']:,} tokens in all.",
            ]
            parts += [f"Left out: {each['what']}; {each['how']}." for each in answer["omitted"]]
    return "\n\n".join(parts) + "\n"


def _json(value: Any, indent: str = "") -> str:
    """JSON with what fits into a line on one."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= LINE_CHARACTERS or not isinstance(value, dict | list):
        return line
    inner = f"{indent}  "
    if isinstance(value, list):
        parts = [f"{inner}{_json(each, inner)}" for each in value]
    else:
        parts = [f"{inner}{json.dumps(key)}: {_json(each, inner)}" for key, each in value.items()]
    begin, end = "[]" if isinstance(value, list) else "{}"
    return f"{begin}\n" + ",\n".join(parts) + f"\n{indent}{end}"


def _part(value: Any, members: tuple[str, ...]) -> Any:
    """Only these members, at every level; empty ones go, and of a long text the last lines stay."""
    match value:
        case dict():
            parts = {key: _part(each, members) for key, each in value.items() if key in members}
            return {key: each for key, each in parts.items() if each not in ({}, [], None)}
        case list():
            return [_part(each, members) for each in value]
        case str() if len(lines := value.replace(f"{ROOT}/", "").splitlines()) > SHOWN_LINES:
            return "\n".join(["…", *lines[-SHOWN_LINES:]])
        case str():
            return value.replace(f"{ROOT}/", "")
        case _:
            return value


def main() -> None:
    """Start everything, record, and put the transcript into the page."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"SIDESPAN_RECEIVER__GRPC_PORT": "0", "PYTHONPATH": str(ROOT)}
        service = subprocess.Popen(
            [*(sys.executable, "-m", "collector", "up", "--json", "--port", "0"), "--data-dir", home],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            assert service.stdout is not None
            url = json.loads(service.stdout.readline())["url"]
            example = [sys.executable, str(ROOT / "examples" / "failing_tool.py")]
            subprocess.run(example, env=environment | {"SIDESPAN_ENDPOINT": url}, check=True)
            wait_for_traces(url)
            transcript = asyncio.run(record(url))
        finally:
            service.terminate()
            service.wait()
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{transcript}\n{END}{rest.partition(END)[2]}")


def wait_for_traces(url: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/-/traces?experiment_name=examples", timeout=10) as answer:
                if len(json.loads(answer.read())["traces"]) == 2:
                    return
        except OSError:
            pass  # the index is starting
        time.sleep(0.2)
    raise TimeoutError("the traces of the example are not in the index")


if __name__ == "__main__":
    main()
