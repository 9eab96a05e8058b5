"""The service's own paths for those who run it: health, metrics, dead letters, replay.

GET  /-/healthy                   the process lives
GET  /-/ready                     200 or 503, a reason for each part
GET  /-/metrics                   Prometheus
GET  /-/dead-letters              ?limit= &after= &target=
GET  /-/dead-letters/{id}         with its spans as OTLP JSON; ?format=protobuf for the bytes
POST /-/dead-letters/retry        {"ids": [1, 2]} or {"all": true}, maybe {"target": "name"}
POST /-/dead-letters/drop         {"ids": [1, 2]} or {"all": true, "target": "name"}
POST /-/replay                    {"since_unix_ns": n}, maybe {"target": "name"}
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from collector.answers import exposition
from collector.answers.dead_letters import export_json, letter_json
from collector.answers.opening import Answers
from collector.api.error_answers import error_answer
from collector.api.own_route import OwnRoute, Parameter
from collector.api.reading import read_object, rights_of, whole_number
from collector.model.parameters import BadParameter
from collector.settings import MLFLOW, Role

MAX_LIMIT = 1000


async def _healthy(_: Request, __: Answers) -> Response:
    return PlainTextResponse("ok\n")


async def _ready(request: Request, answers: Answers) -> Response:
    health = await answers.health.read(rights=rights_of(request))
    return JSONResponse(health, status_code=200 if health["ready"] else 503)


async def _metrics(_: Request, answers: Answers) -> Response:
    return Response(await answers.exposition.read(), media_type=exposition.MEDIA_TYPE)


async def _list(request: Request, answers: Answers) -> Response:
    limit = whole_number(request, "limit", default=100, low=1, high=MAX_LIMIT)
    after = whole_number(request, "after", default=0, low=0, high=2**62)
    target = request.query_params.get("target")
    return JSONResponse(await answers.dead_letters.page(limit=limit, after=after, target=target))


async def _show(request: Request, answers: Answers) -> Response:
    id = request.path_params["id"]
    found = await answers.dead_letters.one(id)
    if found is None:
        return error_answer(404, {"parameter": "id", "value": id, "message": "no such dead letter"})
    letter, target = found
    if request.query_params.get("format") == "protobuf":
        return Response(letter.payload, media_type="application/x-protobuf")
    return JSONResponse(letter_json(letter, target=target) | {"export": export_json(letter)})


async def _retry(request: Request, answers: Answers) -> Response:
    document = await read_object(request)
    ids = None if document.get("all") is True else _ids(document)
    return JSONResponse({"retried": await answers.dead_letters.retry(ids, target=_target(document))})


async def _drop(request: Request, answers: Answers) -> Response:
    document = await read_object(request)
    target = _target(document)
    if document.get("all") is True and target is None:
        raise BadParameter("target", None, "must name the target whose dead letters are all to be deleted")
    ids = None if document.get("all") is True else _ids(document)
    return JSONResponse({"dropped": await answers.dead_letters.drop(ids, target=target)})


async def _replay(request: Request, answers: Answers) -> Response:
    document = await read_object(request)
    since, target = document.get("since_unix_ns"), _target(document) or MLFLOW
    if not isinstance(since, int) or isinstance(since, bool) or since < 0:
        raise BadParameter("since_unix_ns", since, "must be a Unix timestamp in nanoseconds")
    replayed = await answers.dead_letters.replay(since_unix_ns=since, target=target)
    return JSONResponse({"replayed": replayed})


def _target(document: dict[str, Any]) -> str | None:
    target = document.get("target")
    if target is not None and not isinstance(target, str):
        raise BadParameter("target", target, "must be the name of a target")
    return target


def _ids(document: dict[str, Any]) -> list[int]:
    ids = document.get("ids")
    if not isinstance(ids, list) or not ids or not all(type(id) is int for id in ids):
        raise BadParameter("ids", ids, "must be a list of dead letter IDs")
    return ids


HEALTH_ROUTES = (
    OwnRoute(
        method="GET",
        path="/-/healthy",
        permission="sidespan:read",
        handler=_healthy,
        role=None,
        summary="Check that the process is alive",
        media_type="text/plain",
        is_public=True,
    ),
    OwnRoute(
        method="GET",
        path="/-/ready",
        permission="sidespan:read",
        handler=_ready,
        role=None,
        summary="Check that the service accepts data, with the state of each component",
        is_public=True,
    ),
    OwnRoute(
        method="GET",
        path="/-/metrics",
        permission="metrics:read",
        reach="server",
        handler=_metrics,
        role=None,
        summary="Get metrics in Prometheus text format",
        media_type="text/plain",
    ),
)
DEAD_LETTER_ROUTES = (
    OwnRoute(
        method="GET",
        path="/-/dead-letters",
        permission="dead-letters:read",
        reach="server",
        handler=_list,
        summary="List dead letters: exports that MLflow or another target rejected permanently",
        parameters=(
            Parameter(name="limit", description="Maximum number of dead letters, 1 to 1,000; default 100"),
            Parameter(name="after", description="Only dead letters with a higher ID; default 0"),
            Parameter(name="target", description="Only those of one target: mlflow, or a [[forward]] name"),
        ),
    ),
    OwnRoute(
        method="GET",
        path="/-/dead-letters/{id:int}",
        permission="dead-letters:read",
        reach="server",
        handler=_show,
        summary="Get a dead letter with its spans",
        parameters=(
            Parameter(name="id", description="Dead letter ID", place="path", required=True),
            Parameter(
                name="format",
                description="protobuf for the export as an OTLP protobuf message; default: JSON",
            ),
        ),
    ),
    OwnRoute(
        method="POST",
        path="/-/dead-letters/retry",
        permission="dead-letters:write",
        reach="server",
        handler=_retry,
        summary="Return dead letters to the journal for delivery",
        body_description='{"ids": [1, 2]}, or {"all": true}; "target": "name" for those of one target only',
    ),
    OwnRoute(
        method="POST",
        path="/-/dead-letters/drop",
        permission="dead-letters:delete",
        reach="server",
        handler=_drop,
        summary="Delete dead letters permanently",
        body_description='{"ids": [1, 2]}, or {"all": true, "target": "name"}',
    ),
)
REPLAY_ROUTES = (
    OwnRoute(
        method="POST",
        path="/-/replay",
        permission="journal:write",
        reach="server",
        handler=_replay,
        role=Role.DELIVER,
        summary="Deliver retained journal entries again",
        body_description='{"since_unix_ns": 1700000000000000000}: entries received at or after this time,'
        ' for MLflow or for "target": "name"',
    ),
)
ROUTES = (*HEALTH_ROUTES, *DEAD_LETTER_ROUTES, *REPLAY_ROUTES)
