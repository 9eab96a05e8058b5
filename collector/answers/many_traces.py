"""Questions about many traces: the index answers them, for the experiments that the client may see."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiohttp

from collector.answers.encoding import EncodedJson
from collector.answers.errors import AnswerUnavailable, index_error
from collector.answers.rights import ReadRights
from collector.index.duckdb.client import IndexAnswer, IndexClient

INDEX_IS_OFF = (
    "the index is switched off (index.enabled = false); single traces and runs can still be queried"
)
FILE_FORMATS = ("csv", "parquet")

Parameters = Mapping[str, Sequence[str]]
"""Filters, sort, page, format, …: every value of every parameter, by name."""


class IndexQuestion(StrEnum):
    """What can be asked, as the index names it."""

    TRACES = "traces"
    STATS = "stats"
    COMPARE = "compare"
    OVERVIEW = "overview"
    ERRORS = "errors"
    FACETS = "facets"
    SESSIONS = "sessions"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFile:
    """An answer as a file, in pieces. `name` None: it is to be shown rather than saved."""

    media_type: str | None
    name: str | None
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyTraces:
    """Answers on many traces. Without an index (None) each question raises AnswerUnavailable."""

    index: IndexClient | None

    async def ask(
        self, question: IndexQuestion, parameters: Parameters, *, rights: ReadRights
    ) -> EncodedJson:
        """The answer as JSON. Raises BadParameter, AnswerUnavailable, IndexAway."""
        return _body(await _on(self.index).post(f"/ask/{question}", _document(parameters, rights)))

    async def file(
        self, question: IndexQuestion, parameters: Parameters, *, rights: ReadRights
    ) -> AnswerFile:
        """The answer in the `format` of the parameters, in pieces: it may be larger than memory.

        Whoever gets it reads `chunks` to the end or closes it. Raises as `ask`.
        """
        async with AsyncExitStack() as stack:
            opening = _on(self.index).stream(f"/ask/{question}", _document(parameters, rights))
            answer = await stack.enter_async_context(opening)
            if answer.status != 200:
                raise index_error(answer.status, await answer.read())
            disposition = answer.content_disposition
            return AnswerFile(
                media_type=answer.headers.get("content-type"),
                name=None if disposition is None else disposition.filename,
                chunks=_chunks(answer, stack.pop_all()),
            )

    async def session(self, session: str, parameters: Parameters, *, rights: ReadRights) -> EncodedJson:
        """One session with its turns, as JSON. Raises AnswerNotFound, and as `ask`."""
        document = _document(parameters, rights) | {"session": session}
        return _body(await _on(self.index).post("/session", document))


def _on(index: IndexClient | None) -> IndexClient:
    if index is None:
        raise index_off()
    return index


def index_off() -> AnswerUnavailable:
    """The error where a question needs the index and there is none."""
    return AnswerUnavailable("index.enabled", False, INDEX_IS_OFF)


def _document(parameters: Parameters, rights: ReadRights) -> dict[str, Any]:
    return {"parameters": parameters, "experiments": rights.experiment_ids}


def _body(answer: IndexAnswer) -> EncodedJson:
    if answer.status != 200:
        raise index_error(answer.status, answer.body)
    return EncodedJson(answer.body)


async def _chunks(answer: aiohttp.ClientResponse, stack: AsyncExitStack) -> AsyncIterator[bytes]:
    async with stack:
        async for chunk in answer.content.iter_any():
            yield chunk
