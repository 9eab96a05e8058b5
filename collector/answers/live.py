"""Traces as they come, as the API asks for them; collector/live/ answers."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from collector.answers.rights import ReadRights


class LiveStream(Protocol):
    """Server-sent events for one reader. `leave` it at the end, however it ends."""

    def events(self) -> AsyncIterator[bytes]:
        """Events and heartbeats, until the service stops or the rights have to be looked at again."""

    def leave(self) -> None:
        """Nobody reads any more. It may be called again."""


class LiveAnswers(Protocol):
    """Who follows the traces of a service."""

    async def follow(
        self, parameters: Mapping[str, Sequence[str]], *, rights: ReadRights, last_event_id: str | None
    ) -> LiveStream:
        """A stream of the traces that change, with the filters of `/-/traces`, behind `last_event_id`.

        Raises BadParameter, AnswerUnavailable (there is no index that can be followed, or too many follow
        it), IndexFailed, IndexAway.
        """
