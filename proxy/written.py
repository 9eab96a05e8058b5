"""Which traces a request has changed in MLflow, for whoever keeps a copy of what MLflow says of them.

The ids come from the path, or from the body as it passes: it is neither held up nor bounded, but only the
first MAX_BODY_BYTES are looked at.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Message, Receive

from proxy.catalog import Action, Operation
from proxy.errors import Refusal
from proxy.locations import Location, ObjectKind, find

MAX_BODY_BYTES = 1024 * 1024
OF_TRACES = frozenset({"traces", "assessments"})
CHANGES = frozenset({Action.WRITE, Action.DELETE})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedTraces:
    """Traces that MLflow has changed, by its ids (tr-…)."""

    trace_ids: tuple[str, ...]
    workspace: str | None = None


TellChanged = Callable[[ChangedTraces], None]


class Overheard:
    """A request's body on its way, remembered if it is small; `receive` is to be called in its place."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._content = bytearray()
        self._is_whole = True

    async def receive(self) -> Message:
        """The next part of the body."""
        message = await self._receive()
        chunk = message.get("body", b"")
        if len(self._content) + len(chunk) <= MAX_BODY_BYTES:
            self._content += chunk
        else:
            self._is_whole = False
        return message

    @property
    def content(self) -> bytes | None:
        """The whole body; None where it was longer."""
        return bytes(self._content) if self._is_whole else None


def changes_traces(operation: Operation) -> bool:
    """Whether an operation changes what MLflow says of traces: their tags, what they were called, scores."""
    return operation.resource in OF_TRACES and operation.action in CHANGES


def changed_trace_ids(operation: Operation, path: str, body: bytes | None) -> tuple[str, ...]:
    """The ids of the traces that a request has changed; none that can't be read."""
    found: dict[str, None] = {}
    for location in operation.reach.locations:
        if location.kind is ObjectKind.TRACE:
            found.update(dict.fromkeys(_ids(location, operation, path, body)))
    return tuple(found)


def _ids(location: Location, operation: Operation, path: str, body: bytes | None) -> list[str]:
    if location.place == "path":
        return [id for key in location.keys if (id := operation.parameters(path).get(key))]
    if location.place != "body" or not body:
        return []
    try:
        return list(find(json.loads(body), location.keys))
    except (ValueError, RecursionError, Refusal):
        return []
