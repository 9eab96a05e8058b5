"""Alerts over HTTP.

GET  /-/alerts             definitions, states, channels, dead letters
POST /-/alerts/snooze      {"name": "…", "seconds": 3600}; 0 wakes it
POST /-/alerts/test        {"alert": {…}, "since": "-24h"}: when it would have fired
"""

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from collector.answers.opening import Answers
from collector.api.own_route import OwnRoute
from collector.api.reading import read_model, rights_of
from collector.settings.alerts import AlertSettings

MAX_SNOOZE_SECONDS = 366 * 86_400


class AlertSnooze(BaseModel):
    """How long nothing is told of an alert."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    name: str
    """Name of the alert."""
    seconds: float = Field(ge=0, le=MAX_SNOOZE_SECONDS)
    """From now on; 0 wakes it."""


class AlertTest(BaseModel):
    """An alert, and the time over which it is tried out."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    alert: AlertSettings
    """The alert, as a table `[[alerts]]` has it."""
    since: str = "-24h"
    """Start, in the same formats as the filter."""
    until: str = "now"
    """End."""


async def _list(_: Request, answers: Answers) -> Response:
    return JSONResponse(await answers.alerts.page())


async def _snooze(request: Request, answers: Answers) -> Response:
    asked = await read_model(request, AlertSnooze)
    return JSONResponse(await answers.alerts.snooze(asked.name, seconds=asked.seconds))


async def _test(request: Request, answers: Answers) -> Response:
    asked = await read_model(request, AlertTest)
    answer = await answers.alerts.test(
        asked.alert, since=asked.since, until=asked.until, rights=rights_of(request)
    )
    return JSONResponse(answer)


ROUTES = (
    OwnRoute(
        method="GET",
        path="/-/alerts",
        permission="alerts:read",
        reach="server",
        handler=_list,
        summary="List alerts with their states, and the channels that carry notifications",
    ),
    OwnRoute(
        method="POST",
        path="/-/alerts/snooze",
        permission="alerts:write",
        reach="server",
        handler=_snooze,
        summary="Silence an alert for a time, or wake it",
        body=AlertSnooze,
    ),
    OwnRoute(
        method="POST",
        path="/-/alerts/test",
        permission="traces:read",
        handler=_test,
        summary="Replay an alert over the index, and tell when it would have fired",
        body=AlertTest,
        from_index=True,
    ),
)
