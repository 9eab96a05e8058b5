"""What a target's answer to one request says, whatever the target. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto


class Verdict(Enum):
    """What an answer says about the request."""

    TAKEN = auto()  # stored
    PARTLY = auto()  # stored but for some spans, which the answer counts and doesn't name
    PASSING = auto()  # the server's trouble: wait, then send the same again
    SUSPECT = auto()  # maybe the server's, maybe one span's: re-send, then bisect
    TOO_LARGE = auto()  # send smaller
    NO_EXPERIMENT = auto()  # the experiment went away
    REFUSED = auto()  # this data never


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came back for one request. `status` 0: no answer came, or nothing was to be sent.

    `timed_out`: no answer came within the time that is set.

    `withheld_spans` were not sent, because the settings say so; `rejected_spans` are those of which the
    answer says, without naming them, that they are not stored. If these are all, parts fare no better.
    """

    verdict: Verdict
    message: str
    status: int = 0
    retry_after_seconds: float | None = None
    withheld_spans: int = 0
    rejected_spans: int = 0
    timed_out: bool = False


def retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds in a Retry-After header: a number or an HTTP-date (RFC 9110, 10.2.3); None if unreadable."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return max(0.0, (at - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):  # the parser's ways to say no
        return None
