"""Online evaluation: pydantic-evals judges each run of an agent, and MLflow shows what it says.

    python examples/online_evaluation.py     # needs pydantic-evals in this environment, and Sidespan running

It runs offline. pydantic-evals writes each result as an OpenTelemetry log event
(`gen_ai.evaluation.result`) on the agent's span; Sidespan makes an MLflow assessment of it.

Look at: the added line, `instrumentation.configure(...)`; and in MLflow the assessments of each trace:
whether the answer names the place, how many words it has, and the evaluator that fails. The statistics
that it prints at its end are Sidespan's: docs/index.md#scores.
"""

import asyncio
import json
import os
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from offline_model import scripted
from opentelemetry import trace
from pydantic_ai import Agent
from pydantic_evals.evaluators import EvaluationReason, Evaluator, EvaluatorContext
from pydantic_evals.online import wait_for_evaluations
from pydantic_evals.online_capability import OnlineEvaluation

import instrumentation

ENDPOINT = os.environ.get("SIDESPAN_ENDPOINT", "http://127.0.0.1:4318")
EXPERIMENT = os.environ.get("SIDESPAN_EXPERIMENT_NAME", "online evaluation")
PLACES = ("Lisbon", "Oslo")
EVALUATORS = 3
METRICS = ("count", "score_mean", "pass_rate", "error_rate")


@dataclass
class NamesThePlace(Evaluator[str, str]):
    """Yes or no, with the reason."""

    def evaluate(self, ctx: EvaluatorContext[str, str]) -> EvaluationReason:
        place = ctx.inputs.split()[-1].rstrip("?")
        found = place in ctx.output
        return EvaluationReason(value=found, reason=f"the answer {'names' if found else 'lacks'} {place}")


@dataclass
class Words(Evaluator[str, str]):
    """A number."""

    def evaluate(self, ctx: EvaluatorContext[str, str]) -> int:
        return len(ctx.output.split())


@dataclass
class Grammar(Evaluator[str, str]):
    """An evaluator that fails is shown as failed."""

    def evaluate(self, ctx: EvaluatorContext[str, str]) -> bool:
        raise LookupError("no dictionary for this language")


def statistics(since: str) -> list[dict[str, Any]]:
    """What each evaluator said: how many scores, their mean, the shares that passed and that failed."""
    query = {"of": "scores", "by": "score", "metric": METRICS, "since": since, "experiment_name": EXPERIMENT}
    address = f"{ENDPOINT}/-/traces/stats?{urlencode(query, doseq=True)}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return [group["key"] | group["values"] for group in found["groups"]]


def indexed_statistics(since: str, count: int, *, within_seconds: float = 20.0) -> list[dict[str, Any]]:
    """The statistics once they hold so many scores: answers are up to two seconds old."""
    deadline = time.monotonic() + within_seconds
    found = statistics(since)
    while sum(each["count"] for each in found) < count and time.monotonic() < deadline:
        time.sleep(0.2)
        found = statistics(since)
    return found


async def main() -> None:
    handle = instrumentation.configure(service_name="adviser", experiment=EXPERIMENT)
    agent = Agent(
        scripted(answer="Take a light jacket in Lisbon."),
        name="adviser",
        capabilities=[OnlineEvaluation(evaluators=[NamesThePlace(), Words(), Grammar()])],
    )
    started, trace_ids = datetime.now(UTC).isoformat(), []
    for place in PLACES:
        with trace.get_tracer("adviser").start_as_current_span("question"):
            await agent.run(f"What should I wear in {place}?")
            trace_ids.append(instrumentation.current_trace_id())
    await wait_for_evaluations()
    handle.flush()
    scores = indexed_statistics(started, len(PLACES) * EVALUATORS)
    print(json.dumps({"trace_ids": trace_ids, "scores": scores}))


if __name__ == "__main__":
    asyncio.run(main())
