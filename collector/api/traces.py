"""One trace over HTTP.

GET /-/traces/{trace_id}               its summary
GET /-/traces/{trace_id}/content       inputs, outputs and exceptions of its spans
GET /-/traces/{trace_id}/conversation  what was asked, done and answered in it
GET /-/traces/{trace_id}/spans/{span}  everything that one span says
GET /-/traces/{trace_id}/explanation   where its facts come from

400   the id or a parameter can't be right
404   nobody knows the trace, or the span
503   it isn't in the journal, and MLflow can't be asked: try again
"""

import re

from starlette.requests import Request
from starlette.responses import Response

from collector.answers.chat.rendering import ChatBounds
from collector.answers.content import MAX_SPANS as MAX_CONTENTS
from collector.answers.content import Extract
from collector.answers.conversation import MAX_MESSAGES, ConversationPage
from collector.answers.encoding import EncodedJson
from collector.answers.opening import Answers
from collector.answers.trace_source import Unanswered
from collector.answers.traces import parse_trace_id
from collector.api.error_answers import error_answer
from collector.api.json_answers import json_answer
from collector.api.own_route import OwnRoute, Parameter
from collector.api.reading import rights_of, whole_number, yes_or_no
from collector.model.parameters import BadParameter
from collector.spans.summary import MAX_SPANS
from collector.spans.summary_models import RowsOfSpans

MOST_SPANS = 30_000
MAX_SHOWN_CHARACTERS = 200
MAX_CONTENT_CHARACTERS = 1_000_000
DEFAULT_CONTENT_CHARACTERS = 2000
DEFAULT_CHAT_CHARACTERS = 10_000
MAX_MEDIA_CHARACTERS = 8_000_000
SPAN_ID = re.compile(r"[0-9a-f]{16}")


async def _summary(request: Request, answers: Answers) -> Response:
    trace_id = _trace_id(request)
    rows = RowsOfSpans(
        most=whole_number(request, "max_spans", default=MAX_SPANS, low=0, high=MOST_SPANS),
        omit_empty=yes_or_no(request, "omit_empty"),
    )
    return await _rendered(request, await answers.traces.summary(trace_id, rows, rights=rights_of(request)))


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
    return await _rendered(request, await answers.traces.content(trace_id, wanted, rights=rights_of(request)))


async def _conversation(request: Request, answers: Answers) -> Response:
    trace_id = _trace_id(request)
    wanted = ConversationPage(
        from_message=whole_number(request, "from_message", default=0, low=0, high=2**31),
        bounds=_bounds(request),
    )
    return await _rendered(
        request, await answers.traces.conversation(trace_id, wanted, rights=rights_of(request))
    )


async def _span(request: Request, answers: Answers) -> Response:
    trace_id, span_id = _trace_id(request), request.path_params["span_id"].lower()
    if not SPAN_ID.fullmatch(span_id):
        raise BadParameter("span_id", span_id[:MAX_SHOWN_CHARACTERS], "must be 16 hex digits")
    answer = await answers.traces.span(trace_id, span_id, _bounds(request), rights=rights_of(request))
    if answer is None:
        message = "neither the journal nor MLflow has this trace with this span"
        return error_answer(404, {"parameter": "span_id", "value": span_id, "message": message})
    return await _rendered(request, answer)


def _bounds(request: Request) -> ChatBounds:
    return ChatBounds(
        max_characters=whole_number(
            request, "max_characters", default=DEFAULT_CHAT_CHARACTERS, low=0, high=MAX_CONTENT_CHARACTERS
        ),
        max_media_characters=whole_number(
            request, "max_media_characters", default=0, low=0, high=MAX_MEDIA_CHARACTERS
        ),
    )


async def _explanation(request: Request, answers: Answers) -> Response:
    trace_id = _trace_id(request)
    return await _rendered(request, await answers.traces.explanation(trace_id, rights=rights_of(request)))


def _trace_id(request: Request) -> str:
    given = request.path_params["trace_id"]
    trace_id = parse_trace_id(given)
    if trace_id is None:
        allowed = "must be 32 hex digits, with or without a leading `tr-`"
        raise BadParameter("trace_id", given[:MAX_SHOWN_CHARACTERS], allowed)
    return trace_id


async def _rendered(request: Request, answer: EncodedJson | Unanswered | None) -> Response:
    match answer:
        case None:
            return _no_trace(request, 404, "neither the journal nor MLflow has this trace")
        case Unanswered(reason=reason):
            message = f"the journal does not have this trace, and MLflow could not be queried: {reason}"
            return _no_trace(request, 503, message)
        case encoded:
            return await json_answer(request, encoded)


def _no_trace(request: Request, status: int, message: str) -> Response:
    value = request.path_params["trace_id"][:MAX_SHOWN_CHARACTERS]
    return error_answer(status, {"parameter": "trace_id", "value": value, "message": message})


TRACE_ID = Parameter(
    name="trace_id",
    description="Trace ID: 32 hex digits, with or without a leading tr-",
    place="path",
    required=True,
)
CHAT_BOUNDS = (
    Parameter(
        name="max_characters",
        description=f"Maximum length of each text; default {DEFAULT_CHAT_CHARACTERS:,}",
    ),
    Parameter(
        name="max_media_characters",
        description="Maximum length of an image, sound or file in base64: no longer ones; default 0",
    ),
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
            Parameter(
                name="omit_empty",
                description="true: leave out what is null, false or empty in each span; default false",
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
        path="/-/traces/{trace_id}/conversation",
        permission="traces:read",
        reach="path.trace_id",
        handler=_conversation,
        summary="Get the conversation of a trace: the question, tool calls with their results, the answer; "
        f"{MAX_MESSAGES} messages at most",
        parameters=(
            TRACE_ID,
            Parameter(name="from_message", description="Number of the first message, from 0; default 0"),
            *CHAT_BOUNDS,
        ),
    ),
    OwnRoute(
        method="GET",
        path="/-/traces/{trace_id}/spans/{span_id}",
        permission="traces:read",
        reach="path.trace_id",
        handler=_span,
        summary="Get one span: messages, input and output, attributes, events, links and exceptions",
        parameters=(
            TRACE_ID,
            Parameter(name="span_id", description="Span ID: 16 hex digits", place="path", required=True),
            *CHAT_BOUNDS,
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
