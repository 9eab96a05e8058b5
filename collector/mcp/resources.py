"""Traces and runs by their address: what get_trace and get_run say of them with their defaults.

The list names the newest traces by their ids alone: names and messages are telemetry, and a client shows the
list as ours.
"""

import json
import re

import mcp_types as types
from mcp.shared.exceptions import MCPError

from collector.mcp.asking import Ask, AskRefused, Question, ask_json
from collector.mcp.bounds import envelope
from collector.mcp.inputs import GetRun, GetTrace
from collector.mcp.single import get_run, get_trace

ADDRESS = re.compile(r"sidespan://(?:traces/(?:tr-)?([0-9a-fA-F]{32})|runs/([A-Za-z0-9_.-]{1,64}))")
JSON = "application/json"
LISTED = 20


async def list_resources(ask: Ask) -> types.ListResourcesResult:
    """The newest traces that the client may see; none without an index."""
    query = {"limit": [str(LISTED)]}
    try:
        rows = (await ask_json(ask, Question(path="/-/traces", query=query)))["traces"]
    except AskRefused:
        rows = []
    return types.ListResourcesResult(
        resources=[
            types.Resource(
                uri=f"sidespan://traces/{row['trace_id']}",
                name=f"trace {row['trace_id']}",
                description=f"status {row['status']}, {row['span_count']} spans",
                mime_type=JSON,
            )
            for row in rows
        ]
    )


def list_templates() -> types.ListResourceTemplatesResult:
    """The addresses of traces and runs."""
    templates = [
        types.ResourceTemplate(
            uri_template="sidespan://traces/{trace_id}",
            name="trace",
            description="One trace, as get_trace shows it",
            mime_type=JSON,
        ),
        types.ResourceTemplate(
            uri_template="sidespan://runs/{run_id}",
            name="run",
            description="One MLflow run, as get_run shows it",
            mime_type=JSON,
        ),
    ]
    return types.ListResourceTemplatesResult(resource_templates=templates)


async def read_resource(uri: str, ask: Ask, *, max_tokens: int) -> types.ReadResourceResult:
    """One of them. Raises MCPError: it isn't there, or the client may not see it."""
    found = ADDRESS.fullmatch(uri)
    if found is None:
        raise _not_found(uri)
    try:
        if found[1]:
            answer = await get_trace(GetTrace(trace_id=found[1]), ask, max_tokens)
        else:
            answer = await get_run(GetRun(run_id=found[2]), ask, max_tokens)
    except AskRefused as refused:
        if refused.status == 404:
            raise _not_found(uri) from refused
        raise MCPError(types.INTERNAL_ERROR, str(refused)[:500], {"status": refused.status}) from refused
    text = json.dumps(envelope(answer, max_tokens=max_tokens), ensure_ascii=False, separators=(",", ":"))
    contents = types.TextResourceContents(uri=uri, mime_type=JSON, text=text)
    return types.ReadResourceResult(contents=[contents])


def _not_found(uri: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, "there is no such resource", {"uri": uri[:200]})
