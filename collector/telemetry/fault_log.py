"""The log of bugs that cost a span its extras: each place once an hour, so that a flood doesn't fill it."""

import logging
import threading
import time
from collections.abc import Callable

from collector.model.faults import Faults

_log = logging.getLogger("sidespan")

AGAIN_SECONDS = 3600.0
MAX_PLACES = 500


class FaultLog:
    """Remembers which places it has told of. Threads may share one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def tell(self, what: str, faults: Faults, **about: object) -> None:
        """Log what is new of `faults`: `what` it costs; `about` are ids and counts, never content."""
        for place, traceback in faults.tracebacks.items():
            if self._is_due(f"{what}: {place}"):
                _log.error(
                    f"{what}; this place is logged once an hour",
                    extra={"place": place, "traceback": traceback, **about},
                )

    def _is_due(self, place: str) -> bool:
        now = self._clock()
        with self._lock:
            told = self._told.get(place)
            if told is not None and now - told < AGAIN_SECONDS:
                return False
            if len(self._told) >= MAX_PLACES:
                self._told.clear()
            self._told[place] = now
            return True
