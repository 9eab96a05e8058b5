"""Questions about many traces: the index answers them, for the experiments that the client may see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.answers.encoding import EncodedJson
from collector.answers.errors import AnswerNotFound, AnswerUnavailable, IndexFailed
from collector.answers.rights import ReadRights
from collector.index.protocol import (
    FileAnswer,
    Index,
    IndexFailure,
    IndexQuery,
    JsonAnswer,
    QueryKind,
    QueryTimedOut,
)

INDEX_IS_OFF = (
    "the index is switched off (index.enabled = false); single traces and runs can still be queried"
)
UNKNOWN_SESSION = "no trace that you may see names it"

Parameters = Mapping[str, Sequence[str]]
"""Filters, sort, page, format, …: every value of every parameter, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyTraces:
    """Answers on many traces. Without an index (None) each question raises AnswerUnavailable."""

    index: Index | None

    async def ask(
        self, kind: QueryKind, parameters: Parameters, *, rights: ReadRights, session: str = ""
    ) -> EncodedJson | FileAnswer:
        """The answer as JSON, or as a file where the parameters name such a format.

        `session` is the one that QueryKind.SESSION asks about. Raises BadParameter, AnswerNotFound (the
        session), AnswerUnavailable, IndexFailed, IndexAway.
        """
        query = IndexQuery(
            kind=kind,
            parameters=parameters,
            experiment_ids=rights.experiments,
            session=session,
        )
        answer = await _answer(self.index, query)
        if answer is None:
            raise AnswerNotFound("session", session[:200], UNKNOWN_SESSION)
        return EncodedJson(answer.body) if isinstance(answer, JsonAnswer) else answer


async def _answer(index: Index | None, query: IndexQuery) -> JsonAnswer | FileAnswer | None:
    if index is None:
        raise index_off()
    try:
        return await index.ask(query)
    except QueryTimedOut as error:
        raise AnswerUnavailable(error.parameter, error.value, str(error)) from error
    except IndexFailure as error:
        raise IndexFailed("index", 500, "the index failed to answer; its log says why") from error


def index_off() -> AnswerUnavailable:
    """The error where a question needs the index and there is none."""
    return AnswerUnavailable("index.enabled", False, INDEX_IS_OFF)
