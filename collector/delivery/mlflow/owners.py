"""Whose traces and runs a window touches, asked of MLflow right before the write.

MLflow lets any sender write into a trace whose id it knows, in whichever experiment it is, and link traces to
any run. So where clients are told apart, ids are looked up first: what belongs to another experiment goes to
the dead letters. Source: POST /api/3.0/mlflow/traces/batchGetInfos.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collector.mlflow.client import MAX_CONTENT_BYTES, Mlflow, MlflowUnreachable
from collector.mlflow.experiments import CannotAsk, cannot_ask
from collector.mlflow.rest import MlflowApi

TRACES_PER_QUESTION = 500


async def foreign_traces(
    mlflow: Mlflow, trace_ids: Iterable[bytes], *, experiment_id: str, workspace: str | None
) -> frozenset[bytes] | CannotAsk:
    """Of these traces those that MLflow has in another experiment."""
    ids = [trace_id.hex() for trace_id in trace_ids]
    parts = [ids[start : start + TRACES_PER_QUESTION] for start in range(0, len(ids), TRACES_PER_QUESTION)]
    answers = await asyncio.gather(*(_ask(mlflow, part, experiment_id, workspace) for part in parts))
    found: set[bytes] = set()
    for answer in answers:
        if isinstance(answer, CannotAsk):
            return answer
        found |= answer
    return frozenset(found)


async def _ask(
    mlflow: Mlflow, ids: Sequence[str], experiment_id: str, workspace: str | None
) -> frozenset[bytes] | CannotAsk:
    api = MlflowApi(connection=mlflow, workspace=workspace, max_bytes=MAX_CONTENT_BYTES)
    try:
        answer = await api.trace_infos([f"tr-{id}" for id in ids])
    except MlflowUnreachable as error:
        return cannot_ask(error)
    if answer.is_cut and len(ids) > 1:
        halves = [
            await _ask(mlflow, half, experiment_id, workspace)
            for half in (ids[: len(ids) // 2], ids[len(ids) // 2 :])
        ]
        cannot = next((half for half in halves if isinstance(half, CannotAsk)), None)
        return cannot or frozenset().union(*(half for half in halves if isinstance(half, frozenset)))
    if answer.is_cut:  # it is there, and nobody can say that it is ours
        return frozenset(bytes.fromhex(id) for id in ids)
    if answer.status != 200 or (document := answer.document) is None:
        return CannotAsk(message=f"MLflow answered {answer.status} to a look-up of traces: {answer.error}")
    return _elsewhere(document, frozenset(ids), experiment_id)


def _elsewhere(document: Mapping[str, Any], asked: frozenset[str], experiment_id: str) -> frozenset[bytes]:
    foreign = set()
    for info in document.get("trace_infos") or ():
        id = str(info.get("trace_id", "")).removeprefix("tr-")
        location = (info.get("trace_location") or {}).get("mlflow_experiment") or {}
        if id in asked and str(location.get("experiment_id")) != experiment_id:
            foreign.add(bytes.fromhex(id))
    return frozenset(foreign)
