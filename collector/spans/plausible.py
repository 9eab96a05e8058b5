"""Values that can't be what their name says. Pure."""

from collections.abc import Mapping
from typing import Any

from collector.spans.conventions import Source
from collector.spans.readers import amount

NANOSECONDS = 1_000_000_000
# two clocks, or two readings of one: the span's and the one that timed the first token
CLOCK_SECONDS = 0.01
FIRST_WORD = "time_to_first_token_seconds"


def first_token_seconds(said: Mapping[str, Any], by: Mapping[str, Source], duration_ns: int) -> float | None:
    """The time to the first token, which lies within the span.

    Seconds that don't are milliseconds under a name for seconds (strands-agents writes `timeToFirstByteMs`
    into `gen_ai.server.time_to_first_token`); if these don't either, nothing is known.
    """
    if FIRST_WORD not in said:
        return None
    longest = duration_ns / NANOSECONDS + CLOCK_SECONDS
    seconds: float = said[FIRST_WORD] / by[FIRST_WORD].divisor
    if seconds > longest and by[FIRST_WORD].divisor == 1:
        seconds /= 1000
    return seconds if seconds <= longest else None


def sound_cost(value: Any) -> float | None:
    """US dollars that tokens can have cost: 0 is what a client writes that knows no price (OpenLIT)."""
    return amount(value) or None
