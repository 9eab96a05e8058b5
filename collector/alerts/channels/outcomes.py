"""What became of an attempt to send a notification. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# may pass by itself: time-out, too early, too many; and every 5xx
_PASSING = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class NoticeSent:
    """The channel has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeDeferred:
    """The channel can't take it now, but perhaps after `retry_after_seconds`."""

    reason: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRefused:
    """The channel will never take it."""

    reason: str


NoticeOutcome = NoticeSent | NoticeDeferred | NoticeRefused


def http_outcome(
    status: int, *, text: str, retry_after: str | None, now_unix_seconds: float
) -> NoticeOutcome:
    """What a status means. A redirect is refused: a notification goes nowhere but to its address."""
    if 200 <= status < 300:
        return NoticeSent()
    reason = f"the channel answered {status}: {text}" if text else f"the channel answered {status}"
    if status in _PASSING or status >= 500:
        wait = None if retry_after is None else seconds_of(retry_after, now_unix_seconds)
        return NoticeDeferred(reason=reason, retry_after_seconds=wait)
    return NoticeRefused(reason=reason)


def seconds_of(retry_after: str, now_unix_seconds: float) -> float | None:
    """Retry-After in seconds, from a number or a date. Source: RFC 9110, 10.2.3."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now_unix_seconds, UTC)).total_seconds())


def smtp_outcome(code: int, *, text: str) -> NoticeOutcome:
    """What a reply means: 4xx passes, 5xx doesn't. Source: RFC 5321, 4.2.1."""
    reason = f"the mail server answered {code}: {text}"
    return NoticeRefused(reason=reason) if code >= 500 else NoticeDeferred(reason=reason)
