"""What MLflow's answer to a delivery request means. Pure; the one table of its statuses.

MLflow is not a well-behaved OTLP server: an integrity race between two requests is a 400, an unforeseen
exception 500 or 422, and one bad span fails its whole batch. So 400, 422 and 500 are suspects, not verdicts
(CONFORMANCE, "MLflow 3.17 as an OTLP server"): re-sent a few times, then bisected. This departs from
OTLP's "MUST NOT retry" (F6) on purpose; spans are upserted, so a re-send is harmless.
"""

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


VERDICTS: dict[int, Verdict] = {
    400: Verdict.SUSPECT,
    401: Verdict.PASSING,  # our credentials: the operator's trouble, not the data's
    403: Verdict.PASSING,
    404: Verdict.NO_EXPERIMENT,
    408: Verdict.PASSING,
    413: Verdict.TOO_LARGE,
    422: Verdict.SUSPECT,
    425: Verdict.PASSING,
    429: Verdict.PASSING,
    500: Verdict.SUSPECT,
}


def verdict_of(status: int, error_code: str | None = None) -> Verdict:
    """The meaning of a status; a redirect is a failure of the set-up (F17), other 5xx pass.

    `error_code` is MLflow's own, if it sent one: INVALID_PARAMETER_VALUE is its considered word on the
    data (a session id over 250 characters, say), where other 400s may be a race.
    """
    if 200 <= status < 300:
        return Verdict.TAKEN
    if status == 400 and error_code == "INVALID_PARAMETER_VALUE":
        return Verdict.REFUSED
    if status in VERDICTS:
        return VERDICTS[status]
    return Verdict.REFUSED if 400 <= status < 500 else Verdict.PASSING


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came back for one request. `status` 0: no answer came, or nothing was to be sent.

    `withheld_spans` were not sent, because the settings say so; `rejected_spans` an answer of success has
    counted.
    """

    verdict: Verdict
    message: str
    status: int = 0
    retry_after_seconds: float | None = None
    withheld_spans: int = 0
    rejected_spans: int = 0


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
