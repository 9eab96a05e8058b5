"""Errors, sorted by what the caller must do.

    SidespanError
    ├── Rejected        this input never works: mend it          -> 4xx, exit code 1
    ├── Unavailable     the same input works later: try again    -> 429/503 + Retry-After
    ├── Misconfigured   the operator must mend something         -> the start stops, exit code 2
    │   └── WrongSetting    one value of the settings
    └── JournalClosed   used after close: a bug in the caller

Anything else that is raised is a bug. While bytes are not stored the receivers answer a bug with 503,
because OTLP clients drop their data on a 500: only 429, 502, 503 and 504 are retried
(https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes).
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a request or a span is refused. Closed: each is a metric label and a row in docs/reference.md."""

    MALFORMED = "malformed"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_FOUND = "not_found"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    TOO_LARGE = "too_large"
    TOO_MANY_SPANS = "too_many_spans"
    UNKNOWN_EXPERIMENT = "unknown_experiment"
    INVALID_ROUTE = "invalid_route"
    INVALID_TRACE_ID = "invalid_trace_id"
    INVALID_SPAN_ID = "invalid_span_id"
    INVALID_PARENT_SPAN_ID = "invalid_parent_span_id"
    INVALID_TIMESTAMP = "invalid_timestamp"
    INVALID_NAME = "invalid_name"
    ATTRIBUTES_TOO_DEEP = "attributes_too_deep"
    REDACTION_FAILED = "redaction_failed"
    JOURNAL_FULL = "journal_full"
    JOURNAL_FAILED = "journal_failed"
    MEMORY_FULL = "memory_full"
    TOO_MANY_REQUESTS = "too_many_requests"
    SLOW_BODY = "slow_body"
    DECODER_FAILED = "decoder_failed"
    UNDECIDED = "undecided"
    DRAINING = "draining"
    WRONG_ROLE = "wrong_role"
    BUG = "bug"


class SidespanError(Exception):
    """The root of every error that Sidespan raises on purpose."""


class Rejected(SidespanError):
    """This input will never be accepted; `str(error)` tells the client why and what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Unavailable(SidespanError):
    """Nothing is wrong with the input; send it again after `retry_after_seconds`."""

    def __init__(self, reason: Reason, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class Misconfigured(SidespanError):
    """The service can't run as it is set up; the message names the setting and the way out."""


class WrongSetting(Misconfigured):
    """A value that only its user can check; `key` is where it stands among the settings."""

    def __init__(self, key: str, value: object, message: str) -> None:
        super().__init__(f"{key} = {value!r}: {message}")
        self.key = key


class JournalClosed(SidespanError):
    """The journal was used after it was closed."""
