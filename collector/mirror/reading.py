"""Traces as MLflow's API tells them, and what it can't tell."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from collector.mirror.rows import spans_are_stored
from collector.mirror.search import SearchForm, SearchQuestion, question_for
from collector.mlflow.client import MlflowAnswer, MlflowUnreachable
from collector.mlflow.rest import MlflowApi

FAILED = 500

Infos = list[dict[str, Any]]
Spans = list[dict[str, Any]]


async def read_traces(
    api: MlflowApi, trace_ids: Sequence[str]
) -> list[tuple[dict[str, Any], Spans | None]] | None:
    """Infos and spans of those that are there; spans None: they are too long, or MLflow fails at them.

    None: so are these traces together; ask for fewer at once. Raises MlflowUnreachable.
    """
    answer = await api.traces(trace_ids)
    if _is_untold(answer):
        return None if len(trace_ids) > 1 else [(info, None) for info in await _infos(api, trace_ids)]
    found: list[tuple[dict[str, Any], Spans | None]] = [
        (each["trace_info"], each.get("spans", [])) for each in read_document(answer).get("traces", ())
    ]
    # MLflow leaves out those that aren't complete
    told = {info["trace_id"] for info, _ in found}
    missing = [id for id in trace_ids if id not in told]
    if missing:
        found += [(info, await _partial(api, info)) for info in await _infos(api, missing)]
    return found


async def read_page(api: MlflowApi, question: SearchQuestion, rows: Sequence[Sequence[Any]]) -> bytes:
    """What MLflow says of these traces (`rows` as PAGE of search_sql.py), in the question's form.

    Raises MlflowUnreachable, NotAnswered.
    """
    document = question_for(question, rows)
    ask = api.search_page if question.form is SearchForm.V3 else api.search_page_v2
    answer = await ask(document)
    if answer.status != 200 or answer.is_cut:
        raise MlflowUnreachable(f"it answers {answer.status}: {answer.error}")
    return answer.body


async def _infos(api: MlflowApi, trace_ids: Sequence[str]) -> Infos:
    found: Infos = read_document(await api.trace_infos(trace_ids)).get("trace_infos", [])
    return found


async def _partial(api: MlflowApi, info: Mapping[str, Any]) -> Spans | None:
    if not spans_are_stored(info):
        return []
    answer = await api.trace(str(info["trace_id"]).removeprefix("tr-"))
    if _is_untold(answer):
        return None
    spans: Spans = read_document(answer).get("trace", {}).get("spans", [])
    return spans


def _is_untold(answer: MlflowAnswer) -> bool:
    return answer.is_cut or answer.status == FAILED


def read_document(answer: MlflowAnswer) -> dict[str, Any]:
    """An answer's JSON. Raises MlflowUnreachable: no answer that can be read."""
    if answer.status != 200 or answer.is_cut:
        raise MlflowUnreachable(f"it answers {answer.status}: {answer.error}")
    try:
        document = json.loads(answer.body)
    except ValueError as error:
        raise MlflowUnreachable("it answers no JSON") from error
    if not isinstance(document, dict):
        raise MlflowUnreachable("it answers no object")
    return document
