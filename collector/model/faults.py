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
        place = place_of(error)
        if place not in self.tracebacks and len(self.tracebacks) < MAX_PLACES:
            self.tracebacks[place] = traceback_of(error)

    def join(self, other: "Faults") -> None:
        """Note what another one holds."""
        self.count += other.count
        self.tracebacks = {**other.tracebacks, **self.tracebacks}


def place_of(error: Exception) -> str:
    """The exception's type and the line that raised it. Cheap: a flood of them asks for it each time."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    line = "nowhere" if last is None else f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
    return f"{type(error).__name__} at {line}"


def traceback_of(error: Exception) -> str:
    """The frames and the type; not the message, which may quote what a span holds."""
    lines = traceback.format_tb(error.__traceback__, limit=-MAX_FRAMES)
    return "".join(lines) + type(error).__name__
