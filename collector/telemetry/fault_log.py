"""The log of bugs that were caught: each place once an hour, so that a flood doesn't fill it."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from collector.model.faults import Faults, place_of, traceback_of

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
                _write(what, place, traceback, about)

    def tell_of(self, what: str, error: Exception, **about: object) -> None:
        """Log one bug, unless its place was logged lately."""
        place = place_of(error)
        if self._is_due(f"{what}: {place}"):
            _write(what, place, traceback_of(error), about)

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


def _write(what: str, place: str, traceback: str, about: Mapping[str, object]) -> None:
    _log.error(
        f"{what}; this place is logged once an hour",
        extra={"place": place, "traceback": traceback, **about},
    )
