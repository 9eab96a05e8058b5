"""What leaves MLflow, and comes back, over HTTP.

GET  /-/retention          the run that goes on or the last one, and what the archive has
GET  /-/retention/plan     what the rules would do now; ?limit= trace ids a rule
POST /-/retention/run      {}: begin a run; GET /-/retention says how it goes
POST /-/archive/restore    {"trace_id": "…"}, or {"experiment_id": "…"}: some of its traces, until `left` is 0
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from collector.answers.errors import AnswerUnavailable
from collector.answers.opening import Answers
from collector.answers.retention import RetentionAnswers
from collector.answers.traces import parse_trace_id
from collector.api.own_route import OwnRoute, Parameter
from collector.api.reading import read_object, whole_number
from collector.model.parameters import BadParameter
from collector.retention.restore import CannotRestore
from collector.retention.source import CleanupTrouble

MAX_LISTED = 1000


async def _state(_: Request, answers: Answers) -> Response:
    return JSONResponse(await _retention(answers).state())


async def _plan(request: Request, answers: Answers) -> Response:
    listed = whole_number(request, "limit", default=0, low=0, high=MAX_LISTED)
    try:
        return JSONResponse(await _retention(answers).plan(listed=listed))
    except CleanupTrouble as error:
        raise AnswerUnavailable("retention", None, str(error)) from error


async def _run(request: Request, answers: Answers) -> Response:
    await read_object(request)
    return JSONResponse(await _retention(answers).begin())


async def _restore(request: Request, answers: Answers) -> Response:
    document = await read_object(request)
    named = {name: document[name] for name in ("trace_id", "experiment_id") if name in document}
    given = {name: value for name, value in named.items() if isinstance(value, str)}
    if len(given) != 1 or given != named:
        raise BadParameter("trace_id", str(named)[:200], "give trace_id or experiment_id, one of them")
    retention = _retention(answers)
    try:
        if "experiment_id" in given:
            return JSONResponse(await retention.restore_experiment(given["experiment_id"]))
        trace_id = parse_trace_id(given["trace_id"])
        if trace_id is None:
            raise BadParameter("trace_id", given["trace_id"][:200], "must be 32 hex digits")
        return JSONResponse(await retention.restore_trace(trace_id))
    except CannotRestore as error:
        raise AnswerUnavailable("archive", None, str(error)) from error


def _retention(answers: Answers) -> RetentionAnswers:
    if answers.retention is None:
        raise AnswerUnavailable("retention", None, "there is no archive, and no [[retention]] rule is set")
    return answers.retention


ROUTES = (
    OwnRoute(
        method="GET",
        path="/-/retention",
        permission="retention:read",
        reach="server",
        handler=_state,
        summary="Get the state of the current or last run of the retention rules, and what the archive holds",
    ),
    OwnRoute(
        method="GET",
        path="/-/retention/plan",
        permission="retention:read",
        reach="server",
        handler=_plan,
        summary="Compute what the retention rules would delete from MLflow now, without changing anything",
        parameters=(
            Parameter(
                name="limit",
                description=f"Trace IDs to list for each rule and experiment, 0 to {MAX_LISTED:,}; default 0",
            ),
        ),
    ),
    OwnRoute(
        method="POST",
        path="/-/retention/run",
        permission="retention:delete",
        reach="server",
        handler=_run,
        summary="Begin to apply the retention rules; GET /-/retention reports the progress",
        body_description="{}",
    ),
    OwnRoute(
        method="POST",
        path="/-/archive/restore",
        permission="retention:write",
        reach="server",
        handler=_restore,
        summary="Return archived traces to MLflow through the journal",
        body_description='{"trace_id": "…"}, or {"experiment_id": "…"}; repeat until `left` is 0',
    ),
)
