"""Questions that something else may answer in MLflow's place, and the writes that it must know of.

    the gate has judged -> answer(question) -> its answer, marked; or None: MLflow is asked as ever

What answers is not of this package: it is given to `open_proxy`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Scope, Send

from proxy.ask import Passage, ReadBody
from proxy.catalog import Action, Operation
from proxy.clients import CREDENTIALS
from proxy.headers import Headers, header_of
from proxy.reading import JSON_TYPES
from proxy.written import changed_trace_ids, changes_traces

# a longer body is no question that a page or a client asks
MAX_QUESTION_BYTES = 64 * 1024
# what may be answered, and what its form is called
ANSWERED: Mapping[str, str] = {
    "POST /3.0/mlflow/traces/metrics": "metrics",
    "POST /3.0/mlflow/traces/search": "search",
    "GET /2.0/mlflow/traces": "search_v2",
}
# no answer, or a gateway's before MLflow, which doesn't know what became of the request
LOST_STATUSES = frozenset({0, 502, 503, 504})
ANSWER_HEADERS: Headers = [
    (b"content-type", b"application/json"),
    (b"x-content-type-options", b"nosniff"),
    (b"sidespan-answered-by", b"index"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowQuestion:
    """`form`: one of ANSWERED's; `text`: the body, or of a GET the query."""

    form: str
    text: bytes


class WriteOnItsWay(Protocol):
    """A request that changes traces in MLflow."""

    def ended(self, trace_ids: Iterable[str], *, all_known: bool = True, answered: bool = True) -> None:
        """It may have changed these traces (tr-…), and others if not `all_known`. Called once.

        `answered` False: MLflow's answer was lost, and it may change them yet.
        """


class Answering(Protocol):
    """What may answer in MLflow's place."""

    async def answer(self, asked: MlflowQuestion, *, workspace: bool, credentials: bool) -> bytes | None:
        """The JSON that MLflow would answer; None: MLflow is to be asked.

        `workspace`: the request names one; `credentials`: MLflow would be shown the client's own.
        """

    def write_begins(self) -> WriteOnItsWay:
        """A request that changes traces is about to be sent."""

    def other_write_begins(self) -> Callable[[], None]:
        """A request that changes something else is about to be sent, which may have MLflow write traces.

        What is returned is called at its end.
        """


async def send_answer(answer: bytes, added: Headers, send: Send) -> None:
    """Send the JSON of an answer, marked."""
    length = (b"content-length", str(len(answer)).encode())
    headers = [*ANSWER_HEADERS, length, *added]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def question_of(
    operation: Operation, scope: Scope, passage: Passage, read_body: ReadBody
) -> MlflowQuestion | None:
    """What is asked, as the gate lets it pass; None: it is long, or not of a kind that may be answered."""
    form = ANSWERED.get(operation.row)
    if form is None or passage.answer or not operation.row.startswith(f"{scope['method']} "):
        return None
    if not _is_from_here(scope):
        return None
    if scope["method"] == "GET":
        query: bytes = scope["query_string"] if passage.query is None else passage.query
        return MlflowQuestion(form=form, text=query) if len(query) <= MAX_QUESTION_BYTES else None
    if not _asks_by_body(scope):
        return None
    return MlflowQuestion(form=form, text=await read_body() if passage.body is None else passage.body)


def _asks_by_body(scope: Scope) -> bool:
    kind = header_of(scope["headers"], b"content-type")
    if scope["query_string"] or kind not in JSON_TYPES:
        return False
    if header_of(scope["headers"], b"content-encoding") is not None:
        return False
    length = header_of(scope["headers"], b"content-length") or ""
    return length.isascii() and length.isdigit() and int(length) <= MAX_QUESTION_BYTES


def _is_from_here(scope: Scope) -> bool:
    """Whether no page of another origin asks: MLflow says what such a page may read."""
    origin = header_of(scope["headers"], b"origin")
    return origin is None or origin.partition("://")[2] == header_of(scope["headers"], b"host")


def shows_credentials(scope: Scope, private: frozenset[bytes]) -> bool:
    """Whether MLflow would see who the client says it is, and may have rights of its own."""
    shown = {CREDENTIALS, b"cookie"} - private
    return any(name in shown for name, _ in scope["headers"])


# path, body as far as it was read, and the status of the answer, 0: none came
WriteEnded = Callable[[str, bytes | None, int], None]


def write_begins(answering: Answering | None, operation: Operation) -> WriteEnded | None:
    """Say that a request is about to be sent; None: it writes nothing, or nobody wants to know."""
    if answering is None or operation.action is Action.READ and not changes_traces(operation):
        return None
    if not changes_traces(operation):
        other_ended = answering.other_write_begins()
        return lambda _path, _body, _status: other_ended()
    write = answering.write_begins()

    def ended(path: str, body: bytes | None, status: int) -> None:
        ids = changed_trace_ids(operation, path, body)
        write.ended(ids, all_known=bool(ids), answered=status not in LOST_STATUSES)

    return ended
