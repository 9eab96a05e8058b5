"""Runs over HTTP.

GET /-/runs                  ?experiment_id= or ?experiment_name= &filter= &order_by= &limit= &page_token=
GET /-/runs/compare          ?run_id=a&run_id=b…
GET /-/runs/{run_id}         ?history= &metric= …

400 a parameter can't be right, 404 MLflow doesn't know it, 503 MLflow can't be asked
"""

import re
from collections.abc import Sequence

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from collector.answers.opening import Answers
from collector.answers.runs.models import Comparison, RunDetail, RunPage
from collector.answers.runs.source import MAX_POINTS_A_RUN, Wanted
from collector.api.own_route import OwnRoute, Parameter
from collector.api.reading import parse_whole_number, rights_of, whole_number
from collector.model.parameters import BadParameter

RUN_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
EXPERIMENT_ID = re.compile(r"0|[1-9][0-9]{0,18}")
MAX_LIMIT = 1000
DEFAULT_HISTORY = 200
MAX_COMPARED = 20


async def _page(request: Request, answers: Answers) -> Response:
    query = request.query_params
    ids, name = _experiments(request)
    page = await answers.runs.page(
        experiment_ids=ids,
        experiment_name=name,
        filter_string=query.get("filter", ""),
        order_by=query.getlist("order_by"),
        limit=whole_number(request, "limit", default=100, low=1, high=MAX_LIMIT),
        page_token=query.get("page_token"),
    )
    return _json(page)


async def _comparison(request: Request, answers: Answers) -> Response:
    ids = request.query_params.getlist("run_id")
    if not 2 <= len(ids) <= MAX_COMPARED:
        raise BadParameter("run_id", ids, f"2 to {MAX_COMPARED} run IDs are required")
    return _json(await answers.runs.compare([_run_id(id) for id in ids]))


async def _one(request: Request, answers: Answers) -> Response:
    wanted = Wanted(history=_history(request), metrics=request.query_params.getlist("metric") or None)
    run_id = _run_id(request.path_params["run_id"])
    return _json(await answers.runs.one(run_id, wanted, rights=rights_of(request)))


def _experiments(request: Request) -> tuple[Sequence[str], str | None]:
    """Ids, or the name of one experiment."""
    ids = request.query_params.getlist("experiment_id")
    name = request.query_params.get("experiment_name")
    if bool(ids) == bool(name):
        raise BadParameter("experiment_id", ids, "either experiment_id or experiment_name is required")
    for id in ids:
        if not EXPERIMENT_ID.fullmatch(id):
            raise BadParameter("experiment_id", id, "must be digits, without a leading zero or a sign")
    return ids, name or None


def _run_id(text: str) -> str:
    if not RUN_ID.fullmatch(text):
        raise BadParameter("run_id", text[:80], "must be 1 to 64 letters, digits, _, . or -")
    return text


def _history(request: Request) -> int | None:
    """How many points a metric may have; None: all."""
    text = request.query_params.get("history", str(DEFAULT_HISTORY))
    if text == "all":
        return None
    return parse_whole_number(text, "history", low=0, high=MAX_POINTS_A_RUN, or_else=', or "all"')


def _json(document: BaseModel) -> Response:
    return Response(document.model_dump_json(), media_type="application/json")


ROUTES = (
    OwnRoute(
        method="GET",
        path="/-/runs",
        permission="runs:read",
        reach="query.experiment_id[] named:query.experiment_name",
        handler=_page,
        summary="List the runs of experiments with their latest metrics",
        parameters=(
            Parameter(
                name="experiment_id",
                description="Experiment ID; this or experiment_name is required",
                repeated=True,
            ),
            Parameter(name="experiment_name", description="Experiment name, instead of experiment_id"),
            Parameter(name="filter", description="Filter in MLflow's syntax, such as metrics.loss < 1"),
            Parameter(name="order_by", description="Sort order, such as metrics.loss ASC", repeated=True),
            Parameter(name="limit", description="Maximum number of runs, 1 to 1,000; default 100"),
            Parameter(name="page_token", description="next_page_token of the previous page"),
        ),
        answer=RunPage,
    ),
    OwnRoute(
        method="GET",
        path="/-/runs/compare",
        permission="runs:read",
        reach="query.run_id[]",
        handler=_comparison,
        summary="Compare runs: which parameters, metrics and tags differ, and by how much",
        parameters=(
            Parameter(
                name="run_id", description=f"2 to {MAX_COMPARED} run IDs", required=True, repeated=True
            ),
        ),
        answer=Comparison,
    ),
    OwnRoute(
        method="GET",
        path="/-/runs/{run_id}",
        permission="runs:read",
        reach="path.run_id",
        handler=_one,
        summary="Get a run with metric histories, datasets, artifacts, child runs and totals of its traces",
        parameters=(
            Parameter(name="run_id", description="Run ID", place="path", required=True),
            Parameter(
                name="history",
                description="Maximum number of points per metric; minimum and maximum are kept. "
                f"0 for none, or all; default {DEFAULT_HISTORY}",
            ),
            Parameter(name="metric", description="Metric name; default: all metrics", repeated=True),
        ),
        answer=RunDetail,
    ),
)
