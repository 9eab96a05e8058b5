"""One trace over HTTP.

GET /-/traces/{trace_id}               its summary
GET /-/traces/{trace_id}/content       inputs, outputs and exceptions of its spans
GET /-/traces/{trace_id}/explanation   where its facts come from

400   the id or a parameter can't be right
404   nobody knows the trace
503   it isn't in the journal, and MLflow can't be asked: try again
"""

from starlette.requests import Request
from starlette.responses import Response

from collector.answers.content import MAX_SPANS as MAX_CONTENTS
from collector.answers.content import Extract
from collector.answers.encoding import EncodedJson
from collector.answers.opening import Answers
from collector.answers.trace_source import Unanswered
from collector.answers.traces import parse_trace_id
from collector.api.error_answers import error_answer
from collector.api.own_route import OwnRoute, Parameter
from collector.api.reading import rights_of, whole_number
from collector.model.parameters import BadParameter
from collector.spans.summary import MAX_SPANS

MOST_SPANS = 30_000
MAX_SHOWN_CHARACTERS = 200
MAX_CONTENT_CHARACTERS = 1_000_000
DEFAULT_CONTENT_CHARACTERS = 2000


async def _summary(request: Request, answers: Answers) -> Response:
    trace_id = _trace_id(request)
    max_spans = whole_number(request, "max_spans", default=MAX_SPANS, low=0, high=MOST_SPANS)
    answer = await answers.traces.summary(trace_id, max_spans=max_spans, rights=rights_of(request))
    return _rendered(request, answer)


async def _content(request: Request, answers: Answers) -> Response:
    trace_id = _trace_id(request)
    span_ids = frozenset(request.query_params.getlist("span_id"))
    wanted = Extract(
        span_ids=span_ids or None,
        from_character=whole_number(request, "from_character", default=0, low=0, high=2**62),
        max_characters=whole_number(
            request, "max_characters", default=DEFAULT_CONTENT_CHARACTERS, low=0, high=MAX_CONTENT_CHARACTERS
        ),
    )
    return _rendered(request, await answers.traces.content(trace_id, wanted, rights=rights_of(request)))


async def _explanation(request: Request, answers: Answers) -> Response:
    trace_id = _trace_id(request)
    return _rendered(request, await answers.traces.explanation(trace_id, rights=rights_of(request)))


def _trace_id(request: Request) -> str:
    given = request.path_params["trace_id"]
    trace_id = parse_trace_id(given)
    if trace_id is None:
        allowed = "must be 32 hex digits, with or without a leading `tr-`"
        raise BadParameter("trace_id", given[:MAX_SHOWN_CHARACTERS], allowed)
    return trace_id


def _rendered(request: Request, answer: EncodedJson | Unanswered | None) -> Response:
    match answer:
        case None:
            return _no_trace(request, 404, "neither the journal nor MLflow has this trace")
        case Unanswered(reason=reason):
            message = f"the journal does not have this trace, and MLflow could not be queried: {reason}"
            return _no_trace(request, 503, message)
        case encoded:
            return Response(encoded, media_type="application/json")


def _no_trace(request: Request, status: int, message: str) -> Response:
    value = request.path_params["trace_id"][:MAX_SHOWN_CHARACTERS]
    return error_answer(status, {"parameter": "trace_id", "value": value, "message": message})


TRACE_ID = Parameter(
    name="trace_id",
    description="Trace ID: 32 hex digits, with or without a leading tr-",
    place="path",
    required=True,
)
ROUTES = (
    OwnRoute(
        method="GET",
        path="/-/traces/{trace_id}",
        permission="traces:read",
        reach="path.trace_id",
        handler=_summary,
        summary="Get the summary of a trace",
        parameters=(
            TRACE_ID,
            Parameter(
                name="max_spans",
                description=f"Maximum number of spans to list, 0 to {MOST_SPANS:,}; default {MAX_SPANS:,}",
            ),
        ),
    ),
    OwnRoute(
        method="GET",
        path="/-/traces/{trace_id}/content",
        permission="traces:read",
        reach="path.trace_id",
        handler=_content,
        summary=f"Get inputs, outputs and exceptions of the spans of a trace, of {MAX_CONTENTS} at most",
        parameters=(
            TRACE_ID,
            Parameter(name="span_id", description="Span ID; default: all spans", repeated=True),
            Parameter(name="from_character", description="Where in each text to begin; default 0"),
            Parameter(
                name="max_characters",
                description=f"Maximum length of each text; default {DEFAULT_CONTENT_CHARACTERS:,}",
            ),
        ),
    ),
    OwnRoute(
        method="GET",
        path="/-/traces/{trace_id}/explanation",
        permission="traces:read",
        reach="path.trace_id",
        handler=_explanation,
        summary="Explain where the facts of a trace come from and how its spans are changed for MLflow",
        parameters=(TRACE_ID,),
    ),
)
