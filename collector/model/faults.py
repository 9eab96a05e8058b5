"""Bugs that were met on single spans: how many, and where each arose. Pure.

Whatever a step raises on a span costs what the step would have added to it, never its delivery, never its
neighbours. The step adds the exception here; whoever called it counts and logs
(telemetry/fault_log.py).
"""

import traceback
from dataclasses import dataclass, field

# of one call; the log bounds them over time
MAX_PLACES = 8
MAX_FRAMES = 12


@dataclass(slots=True)
class Faults:
    """Exceptions, counted; of each place one traceback, by the place's name."""

    count: int = 0
    tracebacks: dict[str, str] = field(default_factory=dict)

    def add(self, error: Exception) -> None:
        """Note one exception."""
        self.count += 1
        place = _place(error)
        if place not in self.tracebacks and len(self.tracebacks) < MAX_PLACES:
            self.tracebacks[place] = _traceback(error)

    def join(self, other: "Faults") -> None:
        """Note what another one holds."""
        self.count += other.count
        self.tracebacks = {**other.tracebacks, **self.tracebacks}


def _place(error: Exception) -> str:
    """The exception's type and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    last = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
    return f"{type(error).__name__} at {last}"


def _traceback(error: Exception) -> str:
    """The frames and the type; not the message, which may quote what a span holds."""
    lines = traceback.format_tb(error.__traceback__, limit=-MAX_FRAMES)
    return "".join(lines) + type(error).__name__
