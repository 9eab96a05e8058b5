"""From a batch to answers: one request for each MLflow run, in parts where the receiver would refuse the
size.

The SDK's exporter speaks OTLP and honours the standard variables. Here it gets a session of ours, which
adds the run's header and remembers the answer, so that what is worth another try is told from what isn't.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Generic, Protocol, TypeVar

import requests
from opentelemetry.sdk.trace import ReadableSpan

from instrumentation.context import RUN

RUN_HEADER = "x-mlflow-run-id"
RETRYABLE = frozenset({None, 429, 502, 503, 504})  # OTLP 1.11, "Failures"; None: no answer at all
# half of what Sidespan takes, before compression; a text that is longer goes alone
MAX_REQUEST_BYTES = 32 * 1024 * 1024
EXPORTER_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.common.http",
)


class Outcome(Enum):
    """What became of spans."""

    TAKEN = auto()
    REFUSED = auto()  # this data never
    LATER = auto()  # nobody there, or busy


class RunSession(requests.Session):
    """Adds the run's header to each request, and remembers how it was answered."""

    def __init__(self) -> None:
        super().__init__()
        self.run_id: str | None = None
        self.status: int | None = None
        self.reason = ""

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        self.status, self.reason = None, "no answer"
        if self.run_id is not None:
            kwargs["headers"] = {**(kwargs.get("headers") or {}), RUN_HEADER: self.run_id}
        try:
            answer = super().request(method, url, *args, **kwargs)
        except requests.RequestException as error:
            self.reason = type(error).__name__
            raise
        self.status, self.reason = answer.status_code, f"status {answer.status_code}"
        return answer


T = TypeVar("T")


class Exporter(Protocol):
    """An exporter of the SDK's, for spans or for log records: its result is an enum with SUCCESS."""

    def export(self, batch: Any, /) -> Enum:
        """Send them."""

    def shutdown(self) -> None:
        """Send nothing more."""


def rough_bytes(span: ReadableSpan) -> int:
    """The size of a span's text, near enough to bound a request by it."""
    return rough_text(span.attributes) + 500 * len(span.events)


def rough_text(attributes: Any) -> int:
    """The size of attributes, with what stands around them."""
    values = (attributes or {}).values()
    return 200 + sum(len(value) if isinstance(value, str) else 16 for value in values)


def _run_of(span: ReadableSpan) -> str | None:
    found = (span.attributes or {}).get(RUN)
    return found if isinstance(found, str) else None


class Wire(Generic[T]):
    """Sends batches through `exporter`, whose session is `session`. One thread at a time.

    `size_of` counts the bytes of an item, roughly; `run_of` says to which MLflow run it belongs.
    """

    def __init__(
        self,
        exporter: Exporter,
        session: RunSession,
        *,
        size_of: Callable[[Any], int] = rough_bytes,
        run_of: Callable[[Any], str | None] = _run_of,
    ) -> None:
        self._exporter = exporter
        self._session = session
        self._size_of = size_of
        self._run_of = run_of
        self._quiet = _Quiet()
        for name in EXPORTER_LOGGERS:
            logging.getLogger(name).addFilter(self._quiet)

    @property
    def reason(self) -> str:
        """Why the last spans were not taken."""
        return self._session.reason

    @property
    def status(self) -> int | None:
        """How the last request was answered; None: not at all."""
        return self._session.status

    def send(self, items: Sequence[T]) -> tuple[int, list[T]]:
        """How many were refused for good, and which are worth another try."""
        runs: dict[str | None, list[T]] = {}
        for item in items:
            runs.setdefault(self._run_of(item), []).append(item)
        refused, later = 0, []
        for run_id, group in runs.items():
            for part in self._parts(group):
                match self._send(part, run_id):
                    case Outcome.REFUSED:
                        refused += len(part)
                    case Outcome.LATER:
                        later += part
        return refused, later

    def _send(self, items: Sequence[T], run_id: str | None) -> Outcome:
        self._session.run_id = run_id
        with self._quiet:
            taken = self._exporter.export(items).name == "SUCCESS"
        if taken:
            return Outcome.TAKEN
        return Outcome.LATER if self._session.status in RETRYABLE else Outcome.REFUSED

    def _parts(self, items: list[T]) -> list[list[T]]:
        """Halved until each part is within the bound, by a rough count of its text."""
        if len(items) == 1 or sum(map(self._size_of, items)) <= MAX_REQUEST_BYTES:
            return [items]
        middle = len(items) // 2
        return self._parts(items[:middle]) + self._parts(items[middle:])

    def renew(self) -> None:
        """Let go of connections: after a fork they are the parent's."""
        self._session.close()

    def give_up(self) -> None:
        """Wake an export that waits for its next try; nothing can be sent from then on."""
        with self._quiet:
            self._exporter.shutdown()

    def close(self) -> None:
        for name in EXPORTER_LOGGERS:
            logging.getLogger(name).removeFilter(self._quiet)


class _Quiet(logging.Filter):
    """Keeps the exporter silent in our thread: one warning of our own tells of an outage."""

    def __init__(self) -> None:
        super().__init__()
        self._threads: set[int] = set()

    def __enter__(self) -> None:
        self._threads.add(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        self._threads.discard(threading.get_ident())

    def filter(self, record: logging.LogRecord) -> bool:
        return threading.get_ident() not in self._threads
