"""Tokens, cost and calls of a trace are the same in MLflow, in its summary and in the statistics.

Whatever the split into requests, their order and their repetition: each arrangement is harmonised request by
request, sent to a real MLflow, and put into an index as the service does it.
"""

import itertools
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.cli import remote
from collector.harmonise.apply import harmonise
from collector.harmonise.parts import Part
from collector.index.duckdb.lookups import DuckdbTables
from collector.index.duckdb.store import Store
from collector.index.sql import answers
from collector.model.experiment import ExperimentReference
from collector.spans.facts import export_facts
from collector.spans.summary import summarise
from tests.support.indexed import asked, put, store_in
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import all_spans
from tests.support.senders import post
from tests.support.spans import otlp_span

GPT = {"gen_ai.request.model": "gpt-4o", "gen_ai.provider.name": "openai"}
AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "weather"}
CHAT = {"gen_ai.operation.name": "chat", **GPT}
OPENINFERENCE = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o", "llm.provider": "openai"}
STEP = {"openinference.span.kind": "CHAIN"}
HTTP = {"http.request.method": "POST"}


def used(taken: int, given: int, **more: int) -> dict[str, int]:
    names = {"cached": "gen_ai.usage.cache_read.input_tokens"}
    return {
        "gen_ai.usage.input_tokens": taken,
        "gen_ai.usage.output_tokens": given,
        **{names[name]: count for name, count in more.items()},
    }


def counted(taken: int, given: int, **more: int) -> dict[str, int]:
    names = {"cached": "llm.token_count.prompt_details.cache_read"}
    return {
        "llm.token_count.prompt": taken,
        "llm.token_count.completion": given,
        **{names[name]: count for name, count in more.items()},
    }


def summed(taken: int, given: int) -> dict[str, int]:
    return {"gen_ai.aggregated_usage.input_tokens": taken, "gen_ai.aggregated_usage.output_tokens": given}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Spans as (parent, attributes), numbered from 1 in the order of their starts; what they come to."""

    spans: Sequence[tuple[int | None, Mapping[str, Any]]]
    tokens: tuple[int, int, int | None]
    cost: float | None
    calls: int


CACHED_COST = 600 * 2.5e-6 + 400 * 1.25e-6 + 100 * 10e-6
CASES = {
    "the_outer_instrumentation_knows_of_the_cache": Case(
        spans=[
            (None, {**AGENT, **summed(1000, 100)}),
            (1, {**CHAT, **used(1000, 100, cached=400)}),
            (2, {**OPENINFERENCE, **counted(1000, 100)}),
        ],
        tokens=(1000, 100, 400),
        cost=CACHED_COST,
        calls=1,
    ),
    "the_inner_instrumentation_knows_of_the_cache": Case(
        spans=[
            (None, {**AGENT, **summed(1000, 100)}),
            (1, {**CHAT, **used(1000, 100)}),
            (2, {**OPENINFERENCE, **counted(1000, 100, cached=400)}),
        ],
        tokens=(1000, 100, 400),
        cost=CACHED_COST,
        calls=1,
    ),
    "an_http_client_is_between_the_two": Case(
        spans=[
            (None, {**CHAT, **used(1000, 100, cached=400)}),
            (1, HTTP),
            (2, {**OPENINFERENCE, **counted(1000, 100)}),
        ],
        tokens=(1000, 100, 400),
        cost=CACHED_COST,
        calls=1,
    ),
    "only_the_outer_one_tells_tokens": Case(
        spans=[
            (None, STEP),
            (1, {**CHAT, **used(1000, 100, cached=400)}),
            (2, OPENINFERENCE),
        ],
        tokens=(1000, 100, 400),
        cost=CACHED_COST,
        calls=1,
    ),
    "an_agent_that_ends_before_the_step_around_its_call": Case(
        spans=[
            (None, {**AGENT, **used(1000, 100)}),
            (1, STEP),
            (2, {**CHAT, **used(1000, 100, cached=400)}),
        ],
        tokens=(1000, 100, 400),
        cost=CACHED_COST,
        calls=1,
    ),
    "an_agent_with_usage_but_no_calls_beside_other_calls": Case(
        spans=[
            (None, STEP),
            (1, {**CHAT, **used(1000, 100, cached=400)}),
            (1, {**AGENT, **used(70, 7)}),
        ],
        tokens=(1000, 100, 400),
        cost=CACHED_COST,
        calls=1,
    ),
    "an_agent_whose_calls_say_nothing": Case(
        spans=[(None, {**AGENT, **summed(70, 7)}), (1, CHAT), (1, CHAT)],
        tokens=(70, 7, None),
        cost=None,
        calls=2,
    ),
    "an_agent_alone": Case(
        spans=[(None, STEP), (1, {**AGENT, **used(70, 7)}), (2, HTTP)],
        tokens=(70, 7, None),
        cost=None,
        calls=0,
    ),
    "an_embedding_beside_a_call": Case(
        spans=[
            (None, AGENT),
            (1, {"gen_ai.operation.name": "embeddings", **GPT, **used(1000, 0)}),
            (1, {**CHAT, **used(1000, 100, cached=400)}),
        ],
        tokens=(2000, 100, 400),
        cost=CACHED_COST + 1000 * 2.5e-6,
        calls=2,
    ),
}

ORDERS = [list(order) for order in itertools.permutations([1, 2, 3])]
ARRANGEMENTS: dict[str, list[list[int]]] = {
    "whole": [[1, 2, 3]],
    "whole_children_first": [[3, 2, 1]],
    **{f"one_by_one_{'_'.join(map(str, order))}": [[each] for each in order] for order in ORDERS},
    **{f"{each}_apart_last": [[n for n in (3, 2, 1) if n != each], [each]] for each in (1, 2, 3)},
    **{f"{each}_apart_first": [[each], [n for n in (3, 2, 1) if n != each]] for each in (1, 2, 3)},
    "doubled": [[3, 2, 1], [3, 2, 1]],
    "each_doubled": [[3], [3], [2], [2, 3], [1], [1], [2]],
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one of the three says of a trace."""

    tokens: tuple[int | None, int | None, int | None]
    cost: float | None
    cost_by_model: float | None


def requests_of(case: Case, arrangement: Sequence[Sequence[int]]) -> list[ExportTraceServiceRequest]:
    trace_id = os.urandom(16)
    requests = []
    for numbers in arrangement:
        export = ExportTraceServiceRequest()
        spans = export.resource_spans.add().scope_spans.add().spans
        spans.extend(made(trace_id, number, *case.spans[number - 1]) for number in numbers)
        requests.append(export)
    return requests


def made(trace_id: bytes, number: int, parent: int | None, attributes: Mapping[str, Any]) -> Span:
    start = 1_790_000_000_000_000_000 + number * 1_000_000
    return otlp_span(
        dict(attributes),
        trace_id=trace_id,
        span_id=bytes([number] * 8),
        parent_span_id=b"" if parent is None else bytes([parent] * 8),
        name=f"span {number}",
        start_time_unix_nano=start,
        end_time_unix_nano=start + 10_000_000 - number,
    )


def told_mlflow(
    server: MlflowServer, experiment_id: str, requests: Sequence[ExportTraceServiceRequest]
) -> None:
    """As delivery does it: each request after what the one before has left."""
    notes: dict[bytes, bytes] = {}
    for each in requests:
        export = ExportTraceServiceRequest()
        export.CopyFrom(each)
        done = harmonise(export, parts=frozenset(Part), notes=notes)
        assert not done.faults.count, done.faults.tracebacks
        notes |= done.notes
        headers = {"x-mlflow-experiment-id": experiment_id}
        assert post(server.port, export.SerializeToString(), headers)[0] == 200


def in_mlflow(server: MlflowServer, trace_id: bytes) -> Told:
    path = f"/api/3.0/mlflow/traces/tr-{trace_id.hex()}"
    metadata = remote.get_json(server.url, path)["trace"]["trace_info"].get("trace_metadata", {})
    tokens = json.loads(metadata.get("mlflow.trace.tokenUsage", "{}"))
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True, timeout=30)) as db:
        (by_model,) = db.execute(
            "SELECT sum(total_cost) FROM spans WHERE trace_id = ?", (f"tr-{trace_id.hex()}",)
        ).fetchone()
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens")
    return Told(
        tokens=tuple(tokens.get(name) for name in names),  # type: ignore[arg-type]
        cost=json.loads(metadata.get("mlflow.trace.cost", "{}")).get("total_cost"),
        cost_by_model=by_model,
    )


def in_summary(requests: Sequence[ExportTraceServiceRequest], calls: int) -> Told:
    found = summarise([each for request in requests for each in export_facts(request)], trace_id="t")
    assert found.model_call_count == calls
    costs = [use.cost_usd for use in found.models if use.cost_usd is not None]
    return Told(
        tokens=(found.tokens.input, found.tokens.output, found.tokens.cache_read),
        cost=found.cost.usd,
        cost_by_model=sum(costs) if costs else None,
    )


def in_statistics(
    store: Store, experiment_id: str, requests: Sequence[ExportTraceServiceRequest], calls: int
) -> Told:
    sums = ("input_tokens", "output_tokens", "cache_read_tokens", "cost_usd")
    for request in requests:
        put(store, list(export_facts(request)), experiment=ExperimentReference(id=experiment_id))
    of_traces = asked(of="traces", experiment_id=experiment_id, metric=[*sums, "model_calls"])
    of_models = asked(of="models", experiment_id=experiment_id, by="model", metric=["count", *sums])
    whole = answers.stats(DuckdbTables(store.db), of_traces)["total"]
    models = answers.stats(DuckdbTables(store.db), of_models)
    rows = [group["values"] for group in models["groups"]]
    costs = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
    assert sum(row["count"] for row in rows) == whole["model_calls"] == calls
    return Told(
        tokens=(whole["input_tokens"], whole["output_tokens"], whole["cache_read_tokens"]),
        cost=whole["cost_usd"],
        cost_by_model=sum(costs) if costs else None,
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_mlflow_summary_and_statistics_count_the_same_in_any_arrangement(
    case: Case, mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    experiment_id = mlflow_server.create_experiment(f"counting-{os.urandom(6).hex()}")
    cost: Any = None if case.cost is None else pytest.approx(case.cost)
    right = Told(tokens=case.tokens, cost=cost, cost_by_model=cost)
    wrong = {}
    with store_in(tmp_path) as store:
        for number, (name, arrangement) in enumerate(ARRANGEMENTS.items()):
            requests = requests_of(case, arrangement)
            told_mlflow(mlflow_server, experiment_id, requests)
            found = {
                "mlflow": in_mlflow(mlflow_server, all_spans(requests[0])[0].trace_id),
                "summary": in_summary(requests, case.calls),
                "statistics": in_statistics(store, str(number), requests, case.calls),
            }
            wrong |= {f"{name}: {who}": told for who, told in found.items() if told != right}
    assert not wrong
