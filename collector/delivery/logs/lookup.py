"""What MLflow knows of the traces that log records speak of.

A judgement that names no trace names a model's response, which is searched among an experiment's spans, or a
session, whose last trace it goes to. The session may go on, and the response may come once more: so whoever
places a judgement looks first where MLflow has it already. Every answer is certain or a `CannotAsk`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.delivery.logs.assessments import keys_of
from collector.mlflow.client import MlflowAnswer, MlflowUnreachable
from collector.mlflow.experiments import CannotAsk, cannot_ask
from collector.mlflow.rest import MlflowApi
from collector.spans.facts import decode_attributes
from collector.spans.mlflow_trace import read_export
from collector.spans.readers import text
from collector.spans.score_facts import SESSION

RESPONSE_ID = "gen_ai.response.id"
TRACES_PER_QUESTION = 100
# of a session or a response, newest first: so many a request, and so many that a judgement is looked for on
TRACES_PER_PAGE = 100
MAX_JUDGED_TRACES = 1000
# of a response's id that isn't unique, or is found in other attributes too
MAX_CANDIDATES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrace:
    """A trace in MLflow: its experiment, and the keys of the judgements that it has."""

    experiment_id: str | None
    keys: Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a judgement belongs, in hex; without a span it is on the whole trace."""

    trace_id: str
    span_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where judgements of a session or a response are (`judged`, by key), and where the next one belongs.

    `next` None: MLflow has no trace for it.
    """

    judged: Mapping[str, Place]
    next: Place | None = None

    def of(self, key: str) -> Place | None:
        """Where a judgement belongs: where it is, if MLflow has it."""
        return self.judged.get(key, self.next)


async def stored_traces(api: MlflowApi, trace_ids: Iterable[str]) -> Mapping[str, StoredTrace] | CannotAsk:
    """Those of the traces (32 hex digits) that MLflow has."""
    ids = sorted(set(trace_ids))
    found: dict[str, StoredTrace] = {}
    for start in range(0, len(ids), TRACES_PER_QUESTION):
        part = await _stored(api, ids[start : start + TRACES_PER_QUESTION])
        if isinstance(part, CannotAsk):
            return part
        found |= part
    return found


async def _stored(api: MlflowApi, ids: Sequence[str]) -> Mapping[str, StoredTrace] | CannotAsk:
    try:
        answer = await api.trace_infos([f"tr-{id}" for id in ids])
    except MlflowUnreachable as error:
        return cannot_ask(error)
    if answer.is_cut and len(ids) > 1:
        first = await _stored(api, ids[: len(ids) // 2])
        second = await _stored(api, ids[len(ids) // 2 :])
        if isinstance(first, CannotAsk) or isinstance(second, CannotAsk):
            return first if isinstance(first, CannotAsk) else second
        return {**first, **second}
    if answer.status != 200 or answer.document is None:
        return _unanswered(answer)
    infos = [info for info in answer.document.get("trace_infos") or () if isinstance(info, dict)]
    return {_id_of(info): _stored_trace(info) for info in infos}


def _stored_trace(info: Mapping[str, Any]) -> StoredTrace:
    location = (info.get("trace_location") or {}).get("mlflow_experiment") or {}
    experiment_id = location.get("experiment_id")
    return StoredTrace(
        experiment_id=None if experiment_id is None else str(experiment_id), keys=keys_of(info)
    )


async def of_session(api: MlflowApi, experiment_id: str, session: str) -> Places | CannotAsk:
    """Of a session in an experiment: a new judgement goes to its last trace."""
    quoted = _quoted(session)
    if quoted is None:
        return Places(judged={})
    infos = await _infos(api, experiment_id, f"metadata.`{SESSION}` = {quoted}")
    if isinstance(infos, CannotAsk):
        return infos
    last = next((Place(trace_id=_id_of(info)) for info in infos), None)
    return Places(judged=_judged(infos), next=last)


async def of_response(api: MlflowApi, experiment_id: str, response_id: str) -> Places | CannotAsk:
    """Of a model's response: a new judgement goes to the last span of an experiment that has it."""
    quoted = _quoted(f"%{response_id}%")
    if quoted is None:
        return Places(judged={})
    infos = await _infos(api, experiment_id, f"span.attributes.{RESPONSE_ID} LIKE {quoted}")
    if isinstance(infos, CannotAsk):
        return infos
    place: Place | CannotAsk | None = None
    for info in infos[:MAX_CANDIDATES]:
        if place := await _with_response(api, _id_of(info), response_id):
            break
    return place if isinstance(place, CannotAsk) else Places(judged=_judged(infos), next=place)


async def _infos(
    api: MlflowApi, experiment_id: str, filter_string: str
) -> Sequence[Mapping[str, Any]] | CannotAsk:
    """The last MAX_JUDGED_TRACES traces of an experiment that match, newest first."""
    found: list[Mapping[str, Any]] = []
    limit, token = TRACES_PER_PAGE, ""
    while True:
        try:
            answer = await api.search_traces(
                experiment_id,
                filter_string=filter_string,
                order_by=["timestamp_ms DESC"],
                limit=limit,
                page_token=token,
            )
        except MlflowUnreachable as error:
            return cannot_ask(error)
        if answer.is_cut and limit > 1:
            limit //= 2
            continue
        if answer.status != 200 or answer.document is None:
            return _unanswered(answer)
        found += answer.document.get("traces") or ()
        token = answer.document.get("next_page_token") or ""
        if not token or len(found) >= MAX_JUDGED_TRACES:
            return found


def _judged(infos: Sequence[Mapping[str, Any]]) -> Mapping[str, Place]:
    return {
        key: Place(trace_id=_id_of(info), span_id=span_id)
        for info in infos
        for key, span_id in keys_of(info).items()
    }


async def _with_response(api: MlflowApi, trace_id: str, response_id: str) -> Place | CannotAsk | None:
    """MLflow's search is by text; this is exact."""
    try:
        answer = await api.trace(trace_id)
    except MlflowUnreachable as error:
        return cannot_ask(error)
    if answer.status == 404:
        return None
    if answer.status != 200 or answer.is_cut:
        return _unanswered(answer)
    try:
        export = read_export(answer.body)
    except ValueError:
        return None
    for span in export.resource_spans[0].scope_spans[0].spans:
        if text(decode_attributes(span.attributes, (RESPONSE_ID,)).get(RESPONSE_ID)) == response_id:
            return Place(trace_id=trace_id, span_id=span.span_id.hex())
    return None


def _quoted(value: str) -> str | None:
    """A text in MLflow's filter; None: it has no way to write this one."""
    if "\\" in value or not value.isprintable():
        return None
    return next((f"{mark}{value}{mark}" for mark in "'\"" if mark not in value), None)


def _id_of(info: Mapping[str, Any]) -> str:
    return str(info.get("trace_id", "")).removeprefix("tr-")


def _unanswered(answer: MlflowAnswer) -> CannotAsk:
    return CannotAsk(message=f"MLflow answered {answer.status} to a look-up of traces: {answer.error}")
