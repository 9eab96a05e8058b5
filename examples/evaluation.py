"""An evaluation: runs an agent over a small dataset in an MLflow run, with metrics and linked traces.

    python examples/evaluation.py            # needs mlflow in this environment, and Sidespan running

Look at: the run in MLflow (through Sidespan's port) with its metrics and its four traces; the feedback on
each trace; and the printed summary, from the traces themselves and from the run.
"""

import json
import os
import time
import urllib.request

import mlflow
from offline_model import scripted
from opentelemetry import trace
from pydantic_ai import Agent

import instrumentation

ENDPOINT = os.environ.get("SIDESPAN_ENDPOINT", "http://127.0.0.1:4318")
EXPERIMENT = os.environ.get("SIDESPAN_EXPERIMENT_NAME", "evaluation")
CASES = (("2 + 2", "4"), ("3 + 4", "7"), ("1 + 1", "2"), ("5 + 5", "11"))


def answer(question: str) -> tuple[str, str]:
    """The agent's answer, and the trace that it came in."""
    a, b = (int(part) for part in question.split(" + "))
    agent = Agent(scripted(("add", {"a": a, "b": b}), answer=str(a + b)), name="calculator")
    agent.tool_plain(add)
    with trace.get_tracer("evaluation").start_as_current_span("case", attributes={"question": question}):
        return str(agent.run_sync(question).output), instrumentation.current_trace_id() or ""


def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


def summary(trace_id: str) -> dict[str, object]:
    with urllib.request.urlopen(f"{ENDPOINT}/-/traces/{trace_id}", timeout=30) as found:
        return dict(json.loads(found.read()))


def run_summary(run_id: str) -> dict[str, object]:
    with urllib.request.urlopen(f"{ENDPOINT}/-/runs/{run_id}?history=0", timeout=30) as found:
        return dict(json.loads(found.read()))


def main() -> None:
    mlflow.set_tracking_uri(ENDPOINT)
    mlflow.set_experiment(EXPERIMENT)
    handle = instrumentation.configure(service_name="calculator", experiment=EXPERIMENT)
    right, started, trace_ids = 0, time.monotonic(), []
    with mlflow.start_run(run_name="calculator") as run, instrumentation.run(run):
        mlflow.log_param("cases", len(CASES))
        for question, expected in CASES:
            said, trace_id = answer(question)
            trace_ids.append((trace_id, said == expected))
            right += said == expected
        mlflow.log_metric("accuracy", right / len(CASES))
        mlflow.log_metric("seconds", time.monotonic() - started)
    handle.flush()
    for trace_id, is_right in trace_ids:
        instrumentation.feedback(trace_id, "right", is_right, source="evaluation")
    summaries = [summary(trace_id) for trace_id, _ in trace_ids]
    tokens = sum(found["tokens"]["total"] for found in summaries)  # type: ignore[index]
    metrics: list[dict[str, object]] = run_summary(run.info.run_id)["metrics"]  # type: ignore[assignment]
    logged = {metric["key"]: metric["last"] for metric in metrics}
    told = {"run_id": run.info.run_id, "accuracy": right / len(CASES), "tokens": tokens}
    print(json.dumps(told | {"logged": logged}))


if __name__ == "__main__":
    main()
