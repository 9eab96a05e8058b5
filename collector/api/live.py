"""Traces as they come, over HTTP.

GET /-/traces/live     text/event-stream, with the filters of /-/traces; Last-Event-ID resumes

503   too many readers, or no index that can be followed
"""

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from collector.answers.live import LiveStream
from collector.answers.opening import Answers
from collector.api.own_route import OwnRoute, Parameter
from collector.api.query_parameters import filters
from collector.api.reading import parameters_of, rights_of
from collector.index.queries.filters import TRACE_FILTERS

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class EventStream(StreamingResponse):
    """The events of one reader, who has left when this ends."""

    def __init__(self, stream: LiveStream) -> None:
        super().__init__(stream.events(), media_type="text/event-stream", headers=HEADERS)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them, until either side ends it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.leave()


async def _follow(request: Request, answers: Answers) -> Response:
    stream = await answers.live.follow(
        parameters_of(request),
        rights=rights_of(request),
        last_event_id=request.headers.get("last-event-id"),
    )
    return EventStream(stream)


ROUTES = (
    OwnRoute(
        method="GET",
        path="/-/traces/live",
        permission="traces:read",
        handler=_follow,
        summary="Follow traces as server-sent events: `trace` for a trace with new spans, `missed` for how "
        "many events were left out; the header Last-Event-ID resumes",
        parameters=(
            *filters(TRACE_FILTERS),
            Parameter(name="trace_id", description="Trace ID: follow this trace only", repeated=True),
        ),
        media_type="text/event-stream",
        from_index=True,
    ),
)
