"""The MLflow Logs API's paths with its fields, so that its callers only change the address.

POST /health                 {"tracking_uri": …}
POST /mlflow/experiments     … "limit"
POST /mlflow/runs            … "experiment_name" | "experiment_id" | "run_id", "include_metric_history"
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from collector.answers.opening import Answers
from collector.answers.runs.logs import LogsRequest, RunsAnswer, RunsRequest
from collector.api.own_route import OwnRoute
from collector.api.reading import read_model


async def _health(request: Request, answers: Answers) -> Response:
    return JSONResponse(await answers.logs.health(await read_model(request, LogsRequest)))


async def _experiments(request: Request, answers: Answers) -> Response:
    return JSONResponse(await answers.logs.experiments(await read_model(request, LogsRequest)))


async def _runs(request: Request, answers: Answers) -> Response:
    answer = await answers.logs.runs(await read_model(request, RunsRequest))
    return Response(answer.model_dump_json(), media_type="application/json")


ROUTES = (
    OwnRoute(
        method="POST",
        path="/health",
        permission="sidespan:read",
        handler=_health,
        summary="MLflow Logs API: check that MLflow answers",
        body=LogsRequest,
    ),
    OwnRoute(
        method="POST",
        path="/mlflow/experiments",
        permission="experiments:read",
        reach="server",
        handler=_experiments,
        summary="MLflow Logs API: list experiments",
        body=LogsRequest,
    ),
    OwnRoute(
        method="POST",
        path="/mlflow/runs",
        permission="runs:read",
        reach="server",
        handler=_runs,
        summary="MLflow Logs API: get one run or the runs of an experiment",
        body=RunsRequest,
        answer=RunsAnswer,
    ),
)
