"""The cells of a replayed capture, as MLflow's API, the trace summary and the index show them."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from collector.cli import remote
from tests.data.capture.truth import TraceTruth
from tests.support.mlflow_server import MlflowServer
from tests.system.framework_replay import Replay
from tests.system.harmonise_table import grouped

Cells = Mapping[str, Any]
# the name of a cell -> what the index calls it
INDEX_TOKENS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
}
INDEX_NUMBERS = {
    **INDEX_TOKENS,
    "cost": "cost_usd",
    "errors": "error_spans",
    "model_calls": "model_calls",
    "tool_calls": "tool_calls",
}
MLFLOW_TOKENS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
}
# a cell that counts traces by a value -> the dimension of the statistics
NAMED = {"name": "name", "agent": "agent", "session": "session", "user": "user"}


def mlflow_traces(server: MlflowServer, sent: Replay) -> dict[str, Cells]:
    """Trace id -> its cells in MLflow's API."""
    answer = remote.post_json(
        server.url,
        "/api/3.0/mlflow/traces/search",
        {
            "locations": [
                {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": sent.experiment_id}}
            ],
            "max_results": 100,
        },
    )
    return {info["trace_id"].removeprefix("tr-"): _mlflow_trace(info) for info in answer.get("traces", ())}


def _mlflow_trace(info: Mapping[str, Any]) -> Cells:
    tags, metadata = info.get("tags", {}), info.get("trace_metadata", {})
    tokens = json.loads(metadata.get("mlflow.trace.tokenUsage", "{}"))
    return {
        "name": tags.get("mlflow.traceName"),
        "status": info.get("state"),
        **{cell: tokens.get(name) or None for cell, name in MLFLOW_TOKENS.items()},
        "cost": json.loads(metadata.get("mlflow.trace.cost", "{}")).get("total_cost"),
        "session": metadata.get("mlflow.trace.session"),
        "user": metadata.get("mlflow.trace.user"),
        "request": info.get("request_preview"),
        "response": info.get("response_preview"),
    }


def mlflow_capture(server: MlflowServer, sent: Replay) -> Cells:
    """The cells of all traces of an experiment in MLflow's metrics."""
    return {
        "types": grouped(server, sent.experiment_id, "SPANS", "span_count", "span_type"),
        "name": grouped(server, sent.experiment_id, "TRACES", "trace_count", "trace_name"),
        "model_cost": _model_cost(server, sent.experiment_id),
    }


def _model_cost(server: MlflowServer, experiment_id: str) -> float:
    answer = remote.post_json(
        server.url,
        "/api/3.0/mlflow/traces/metrics",
        {
            "experiment_ids": [experiment_id],
            "view_type": "SPANS",
            "metric_name": "total_cost",
            "aggregations": [{"aggregation_type": "SUM"}],
            "dimensions": ["span_model_name"],
            "max_results": 100,
        },
    )
    return sum(point["values"]["SUM"] for point in answer.get("data_points", ()))


def summary(url: str, trace_id: str) -> Cells:
    """The cells of one trace in `/-/traces/{trace_id}`."""
    return of_summary(remote.get_json(url, f"/-/traces/{trace_id}"))


def of_summary(found: Mapping[str, Any]) -> Cells:
    """The cells of a trace's summary."""
    tokens = found["tokens"]
    return {
        "name": found["name"],
        "status": found["status"],
        "model_calls": found["model_call_count"],
        "tool_calls": found["tool_call_count"],
        "tools": {each["tool"]: each["calls"] for each in found["tools"]},
        "models": {
            each["model"]: each["calls"] for each in found["models"] if each["model"] and each["calls"]
        },
        **{cell: tokens[name.removesuffix("_tokens")] or None for cell, name in INDEX_TOKENS.items()},
        "cost": found["cost"]["usd"],
        "errors": found["error_span_count"],
        "agent": found["agent"],
        "session": found["session"],
        "user": found["user"],
    }


def rows(url: str, sent: Replay) -> dict[str, Cells]:
    """Trace id -> its cells in the list of traces."""
    found = remote.get_json(url, f"/-/traces?{urlencode({'experiment_id': sent.experiment_id})}")
    return {row["trace_id"]: _row(row) for row in found["traces"]}


def _row(row: Mapping[str, Any]) -> Cells:
    return {
        **{cell: row[name] or None for cell, name in INDEX_TOKENS.items()},
        "cost": row["cost_usd"],
        "errors": row["error_spans"],
        **{name: row[name] for name in ("model_calls", "tool_calls", *NAMED, "status")},
    }


def statistics(url: str, sent: Replay) -> Cells:
    """The cells of all traces of an experiment in `/-/traces/stats`."""
    metrics = [*INDEX_NUMBERS.values(), "truncated_share"]
    whole = _stats(url, sent, of="traces", metric=metrics)["total"]
    calls = whole["model_calls"] or 0
    return {
        **{cell: whole[name] or 0 for cell, name in INDEX_NUMBERS.items()},
        "truncated": round((whole["truncated_share"] or 0) * calls),
        "tools": _counted(url, sent, of="tools", by="tool"),
        **{cell: _counted(url, sent, of="traces", by=by) for cell, by in NAMED.items()},
        "models": _counted(url, sent, of="models", by="model"),
        "answering": _counted(url, sent, of="models", by="response_model"),
    }


def _counted(url: str, sent: Replay, *, of: str, by: str) -> dict[str, int]:
    groups = _stats(url, sent, of=of, by=by, metric="count", top=1000)["groups"]
    return {
        group["key"][by]: int(group["values"]["count"])
        for group in groups
        if group["key"][by] is not None and group["values"]["count"]
    }


def _stats(url: str, sent: Replay, **asked: Any) -> dict[str, Any]:
    parameters = urlencode({"experiment_id": sent.experiment_id, **asked}, doseq=True)
    return remote.get_json(url, f"/-/traces/stats?{parameters}")


def same(cell: str, found: Any, expected: Any) -> bool:
    """Whether a cell shows what is expected; a preview shows a text if it has it within."""
    if cell in ("request", "response"):
        return not found if expected is None else expected in (found or "")
    if cell in ("cost", "model_cost"):
        return abs((found or 0) - (expected or 0)) < 1e-9
    return bool(found == expected)


def expected_of(truth: TraceTruth, cell: str) -> Any:
    value = truth.expected(cell)
    return dict(value) if isinstance(value, Counter) else value
