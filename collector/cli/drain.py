"""`sidespan drain`: waits until a service has nothing left, before another takes its place."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from collector.cli import remote
from collector.model.errors import Misconfigured

LOOK_EVERY_SECONDS = 1.0
ANSWER_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What a service still holds. Dead letters wait for a decision of yours; the rest goes by itself."""

    pending_spans: int
    pending_records: int
    index_lag_seconds: float
    dead_letters: int

    @property
    def is_empty(self) -> bool:
        """Whether everything has gone that goes by itself."""
        return not (self.pending_spans or self.pending_records or self.index_lag_seconds)

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def drained(
    url: str, *, timeout_seconds: float | None, tell: Callable[[Remains], None] = lambda remains: None
) -> Remains:
    """What the service at `url` holds at the end: when all has gone, or when the time is over (None: never).

    `tell` hears of it once a second. Raises CannotReach, Misconfigured (it tells nothing without a token).
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        remains = read_remains(remote.get_readiness(url, timeout_seconds=ANSWER_SECONDS))
        tell(remains)
        if remains.is_empty or (deadline is not None and time.monotonic() >= deadline):
            return remains
        time.sleep(LOOK_EVERY_SECONDS)


def read_remains(health: dict[str, Any]) -> Remains:
    """From what `/-/ready` says. Raises Misconfigured."""
    parts = health.get("parts")
    if parts is None:
        raise Misconfigured("the service says what it holds to known clients only: set SIDESPAN_TOKEN")
    if "pending_spans" not in parts.get("delivery", {}):
        raise Misconfigured("this process does not count what the log holds: ask one with the role query")
    return Remains(
        pending_spans=parts["delivery"]["pending_spans"],
        pending_records=parts["logs"]["pending_records"],
        index_lag_seconds=parts["index"].get("lag_seconds", 0.0),
        dead_letters=parts["journal"]["dead_letters"] + parts["logs"]["dead_letters"],
    )
