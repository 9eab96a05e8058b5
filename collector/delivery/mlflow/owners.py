"""Whose traces and runs a window touches, asked of MLflow right before the write.

MLflow lets any sender write into a trace whose id he knows, in whichever experiment it is, and link traces to
any run. So where clients are told apart, ids are looked up first: what belongs to another experiment goes to
the dead letters. Source: POST /api/3.0/mlflow/traces/batchGetInfos.
"""

import asyncio
from collections.abc import Iterable, Sequence

from collector.mlflow.client import Mlflow, MlflowUnreachable
from collector.mlflow.experiments import CannotAsk
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
    try:
        answer = await MlflowApi(connection=mlflow, workspace=workspace).trace_infos(
            [f"tr-{id}" for id in ids]
        )
    except MlflowUnreachable as error:
        return CannotAsk(message=str(error))
    if answer.status != 200:
        return CannotAsk(message=f"MLflow answered {answer.status} to a look-up of traces: {answer.error}")
    asked = set(ids)
    foreign = set()
    for info in answer.json().get("trace_infos") or ():
        id = str(info.get("trace_id", "")).removeprefix("tr-")
        location = (info.get("trace_location") or {}).get("mlflow_experiment") or {}
        if id in asked and str(location.get("experiment_id")) != experiment_id:
            foreign.add(bytes.fromhex(id))
    return frozenset(foreign)
