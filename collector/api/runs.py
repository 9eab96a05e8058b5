"""Runs over HTTP. Thin: parameters in, source and shapes out.

    GET /-/runs               ?experiment_id= or ?experiment_name= &filter= &order_by= &limit= &page_token=
    GET /-/runs/compare          ?run_id=a&run_id=b…
    GET /-/runs/{run_id}         ?history= &metric= …

Errors have one form: {"error": {"parameter", "value", "message"}}; 400 a parameter can't be right, 404
MLflow doesn't know it, 503 MLflow can't be asked.
"""

import asyncio
import re
from collections.abc import Sequence

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collector.answers.runs.compare import compare
from collector.answers.runs.source import MAX_POINTS_A_RUN, NoSuchRun, RunSource, Wanted
from collector.model.parameters import BadParameter, error_answer

RUN_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
EXPERIMENT_ID = re.compile(r"0|[1-9][0-9]{0,18}")
MAX_LIMIT = 1000
DEFAULT_HISTORY = 200
MAX_COMPARED = 20
# in the scope of a request: resources that the client may read beside runs
READABLE = "sidespan.readable"
EVERYTHING = frozenset({"traces", "artifacts"})


def run_routes(source: RunSource) -> list[Route]:
    """The routes above."""

    async def runs(request: Request) -> Response:
        query = request.query_params
        ids = await _experiments(request, source)
        page = await source.runs(
            ids,
            filter_string=query.get("filter", ""),
            order_by=query.getlist("order_by"),
            limit=_whole(query.get("limit", "100"), "limit", 1, MAX_LIMIT),
            page_token=query.get("page_token"),
        )
        return _json(page)

    async def compared(request: Request) -> Response:
        ids = request.query_params.getlist("run_id")
        if not 2 <= len(ids) <= MAX_COMPARED:
            raise BadParameter("run_id", ids, f"give 2 to {MAX_COMPARED} runs")
        return _json(compare(await asyncio.gather(*(source.plain(_run_id(id)) for id in ids))))

    async def run(request: Request) -> Response:
        query = request.query_params
        readable = request.scope.get(READABLE, EVERYTHING)
        text = query.get("history", str(DEFAULT_HISTORY))
        history = None if text == "all" else _whole(text, "history", 0, MAX_POINTS_A_RUN)
        wanted = Wanted(
            history=history,
            metrics=query.getlist("metric") or None,
            artifacts="artifacts" in readable,
            traces="traces" in readable,
        )
        return _json(await source.run(_run_id(request.path_params["run_id"]), wanted))

    return [
        Route("/-/runs", runs, methods=["GET"]),
        Route("/-/runs/compare", compared, methods=["GET"]),
        Route("/-/runs/{run_id}", run, methods=["GET"]),
    ]


async def _experiments(request: Request, source: RunSource) -> Sequence[str]:
    ids = request.query_params.getlist("experiment_id")
    name = request.query_params.get("experiment_name")
    if bool(ids) == bool(name):
        raise BadParameter("experiment_id", ids, "give experiment_id or experiment_name, one of them")
    for id in ids:
        if not EXPERIMENT_ID.fullmatch(id):
            raise BadParameter("experiment_id", id, "must be digits, without leading zero or sign")
    return ids or [await source.experiment_id(name or "")]


def _run_id(text: str) -> str:
    if not RUN_ID.fullmatch(text):
        raise BadParameter("run_id", text[:80], "must be letters, digits, _ . -, 64 at the most")
    return text


def _whole(text: str, name: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        allowed = f"a whole number from {low} to {high}" + (', or "all"' if name == "history" else "")
        raise BadParameter(name, text[:80], f"must be {allowed}")
    return int(text)


def _json(document: BaseModel) -> Response:
    return Response(document.model_dump_json(), media_type="application/json")


async def run_trouble(request: Request, error: Exception) -> Response:
    """The handler for NoSuchRun and MlflowTrouble."""
    status, parameter = (404, "run or experiment") if isinstance(error, NoSuchRun) else (503, "mlflow")
    document = {"parameter": parameter, "value": str(request.url.path), "message": str(error)}
    return error_answer(status, document)
