"""The one verb that tools need: ask a path of the running service, in the name of the client."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

Json = dict[str, Any]
Query = Mapping[str, Sequence[str]]
# bodies over this size are read in a thread: the event loop answers others meanwhile
LARGE_BODY_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request: `path` without the query, not yet quoted; a `document` makes it a POST."""

    path: str
    query: Query = field(default_factory=dict)
    document: Json | None = None

    @property
    def method(self) -> str:
        """GET, or POST where there is a document."""
        return "GET" if self.document is None else "POST"

    @property
    def quoted_path(self) -> str:
        """The path as it goes over the wire."""
        return quote(self.path)

    @property
    def query_string(self) -> str:
        """The query as it goes over the wire, without `?`."""
        return urlencode(self.query, doseq=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the service answered."""

    status: int
    body: bytes


Ask = Callable[[Question], Awaitable[Reply]]
"""Asks the service. A service that can't be reached is a reply too, with status 503."""


class AskRefused(Exception):
    """The service has no answer; `document` says why, `status` is HTTP's."""

    def __init__(self, status: int, document: Json) -> None:
        super().__init__(str(document.get("message", status)))
        self.status, self.document = status, document


async def ask_json(ask: Ask, question: Question) -> Json:
    """The JSON object that answers the question. Raises AskRefused."""
    reply = await ask(question)
    if len(reply.body) > LARGE_BODY_BYTES:
        document = await asyncio.to_thread(_object, reply.body)
    else:
        document = _object(reply.body)
    if document is not None and reply.status == 200:
        return document
    raise AskRefused(reply.status, _reason(reply.status, document))


def _object(body: bytes) -> Json | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _reason(status: int, document: Json | None) -> Json:
    """The error in the form of our own API, or in MLflow's."""
    given = document or {}
    error = given.get("error")
    if isinstance(error, dict):
        return error
    if "ready" in given:  # /-/ready says what it says with 503 as well
        return given
    message = given.get("message")
    return {"message": message if isinstance(message, str) else f"the service answered {status}"}
