"""From an ended span or a log record to the wire: a queue, a thread that empties it, and bounds on all.

    span started -> labels
    span ended -> queue -> thread: take -> mend -> send -> taken | refused | again
                  full: the newest are lost, and counted

The agent's own thread only puts a span into a queue. An endpoint that is away costs it nothing: what can't
be sent waits, within the bound, and goes when the endpoint is back; one warning tells of it. The thread
starts with the first span, so that a server may fork after `configure`; a child starts with an empty queue
of its own.
"""

import logging
import os
import signal
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from instrumentation.context import put_labels
from instrumentation.wire import Wire, rough_bytes

_log = logging.getLogger("instrumentation")

BATCH_BYTES = 4 * 1024 * 1024
LONGEST_PAUSE_SECONDS = 30.0
# at exit: time for an endpoint that has answered lately, and for one that hasn't
EXIT_SECONDS, EXIT_SECONDS_WHEN_AWAY = 10.0, 2.0

Mend = Callable[[ReadableSpan], ReadableSpan]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """When the queue is emptied, the first time sooner, and what it holds at the most."""

    delay_seconds: float = 1.0
    first_delay_seconds: float = 0.2
    batch_spans: int = 512
    queue_spans: int = 4096


def bounds_of(environment: Mapping[str, str]) -> Bounds:
    """The bounds, as the standard variables of a batch processor set them. Raises ValueError."""
    found: dict[str, Any] = {}
    for name, variable, divisor in (
        ("delay_seconds", "OTEL_BSP_SCHEDULE_DELAY", 1000),
        ("batch_spans", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1),
        ("queue_spans", "OTEL_BSP_MAX_QUEUE_SIZE", 1),
    ):
        text = environment.get(variable)
        if text:
            if not text.isdecimal() or (divisor == 1 and int(text) < 1):
                raise ValueError(f"{variable}: {text!r} is not a valid whole number")
            found[name] = int(text) / divisor if divisor > 1 else int(text)
    if "delay_seconds" in found:
        found["first_delay_seconds"] = min(found["delay_seconds"], Bounds().first_delay_seconds)
    return Bounds(**found)


def end_on_termination(*outboxes: "Outbox[Any]") -> None:
    """Send what is left when SIGTERM would end the process at once, as it does unless somebody handles it.

    Servers that handle it raise it once more when they are done (uvicorn), and no atexit runs then. A
    handler of the program's own is left alone; so is everything outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return

    def terminate(number: int, frame: object) -> None:
        for outbox in outboxes:
            outbox.end()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, terminate)


def _reset(outbox: "Outbox[Any] | None") -> None:
    if outbox is not None:
        outbox._reset()
        outbox._wire.renew()


class Outbox(ABC, Generic[T]):
    """The queue of one signal and the thread that empties it. After `end` it takes nothing more.

    A subclass says how an item is made ready, and how large it is.
    """

    # what people call the items
    noun = "spans"

    def __init__(self, *, wire: Wire[T], bounds: Bounds, batch: bool = True) -> None:
        self._wire = wire
        self._bounds = bounds
        self._batch = batch
        self.is_closed = False
        self._reset()
        if hasattr(os, "register_at_fork"):
            this = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _reset(this()))

    def _reset(self) -> None:
        """The state of a process that has sent nothing yet; also that of a child after a fork."""
        self._changed = threading.Condition()
        self._queue: deque[T] = deque()
        self._thread: threading.Thread | None = None
        self._sending = 0
        self._has_sent = False
        self._is_away = False
        self._flushes = 0
        self._is_ending = False
        self._is_over = False
        self.lost_spans = 0
        self.refused = 0
        self._losses_told = 0

    # the agent's side

    @property
    def reason(self) -> str:
        """Why the last items were not taken."""
        return self._wire.reason

    def put(self, item: T) -> None:
        """Take an item to be sent; where the queue is full it is lost, and counted."""
        if not self._batch:
            self._send([item])
            return
        with self._changed:
            if len(self._queue) >= self._bounds.queue_spans:
                self.lost_spans += 1
                return
            self._queue.append(item)
            if self._thread is None:
                self._start()
            if len(self._queue) in (1, self._bounds.batch_spans):
                self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Send what has ended; False if that took longer, or if any span was lost since the last flush."""
        if self.is_closed:
            return False
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._flushes += 1
            self._changed.notify_all()
            empty = self._wait_empty(deadline)
            self._flushes -= 1
            lost, self._losses_told = self.lost_spans - self._losses_told, self.lost_spans
        return empty and lost == 0

    def end(self, timeout_seconds: float | None = None) -> None:
        """Take no more spans, send what is left within the time, give up the rest. Twice is harmless."""
        if self._is_ending:
            return
        self.is_closed = True
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
            if timeout_seconds is None:
                timeout_seconds = (
                    EXIT_SECONDS_WHEN_AWAY if self._is_away or not self._has_sent else EXIT_SECONDS
                )
            self._wait_empty(time.monotonic() + timeout_seconds)
            left = len(self._queue) + self._sending
            self._queue.clear()
            self._is_over = True
            self._changed.notify_all()
        self._wire.give_up()
        if self._thread is not None:
            self._thread.join(1.0)
        self._wire.close()
        if left:
            _log.warning("%d %s could not be sent before the end: %s", left, self.noun, self._wire.reason)

    def shutdown(self) -> None:
        self.end()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.flush(timeout_millis / 1000)

    def _wait_empty(self, deadline: float) -> bool:
        while self._queue or self._sending:
            if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                return not (self._queue or self._sending)
        return True

    # the thread's side

    def _start(self) -> None:
        # a child of multiprocessing (a worker of uvicorn, say) runs its own finalizers and no atexit
        if (finalizers := sys.modules.get("multiprocessing.util")) is not None:
            finalizers.Finalize(None, self.end, exitpriority=100)
        self._thread = threading.Thread(target=self._work, name="sidespan-export", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # an interpreter that is going down starts no threads
            self._thread = None

    def _work(self) -> None:
        pause = 0.0
        while (batch := self._take(pause)) is not None:
            later = self._send(batch)
            with self._changed:
                self._sending = 0
                if self._is_over:
                    return
                # in front of what ended since, as far as there is room
                room = self._bounds.queue_spans - len(self._queue)
                self.lost_spans += max(0, len(later) - room)
                self._queue.extendleft(reversed(later[: max(0, room)]))
                self._changed.notify_all()
            pause = min(max(1.0, pause * 2), LONGEST_PAUSE_SECONDS) if later else 0.0

    def _take(self, pause: float) -> list[T] | None:
        """The next batch, once it is time for it; None: there is nothing more to do."""
        with self._changed:
            while not self._queue:
                if self._is_ending:
                    return None
                self._changed.wait()
            if self._is_over:
                return None
            delay = self._bounds.delay_seconds if self._has_sent else self._bounds.first_delay_seconds
            due = time.monotonic() + max(delay, pause)
            while self._must_wait(pause) and (left := due - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._is_over:
                return None
            batch: list[T] = []
            size = 0
            while self._queue and len(batch) < self._bounds.batch_spans and size < BATCH_BYTES:
                item = self._queue.popleft()
                size += self._size_of(item)
                batch.append(item)
            self._sending = len(batch)
            return batch

    def _must_wait(self, pause: float) -> bool:
        if self._flushes or self._is_over:
            return False
        if self._is_ending:  # try once more, not without end
            return pause > 0
        return pause > 0 or len(self._queue) < self._bounds.batch_spans

    def _send(self, batch: Sequence[T]) -> list[T]:
        """Those of the batch that are worth another try."""
        refused, later = self._wire.send([self._ready(item) for item in batch])
        self.lost_spans += refused
        self.refused += refused
        if refused:
            self._tell_refused(refused)
        if later and not self._is_away:
            _log.warning(
                "%s can't be sent (%s); they wait until it is possible", self.noun, self._wire.reason
            )
        if not later and self._is_away:
            _log.warning("%s can be sent again; %d were lost meanwhile", self.noun, self.lost_spans)
        self._is_away = bool(later)
        self._has_sent = self._has_sent or not later
        return later

    def _ready(self, item: T) -> T:
        return item

    @abstractmethod
    def _size_of(self, item: T) -> int:
        """About how many bytes an item takes."""

    def _tell_refused(self, count: int) -> None:
        _log.warning("%d %s were refused permanently: %s", count, self.noun, self._wire.reason)


class Pipeline(Outbox[ReadableSpan], SpanProcessor):
    """What `configure` adds to a provider. After `end` it lies still: the SDK can't take a processor out."""

    def __init__(self, *, wire: Wire[ReadableSpan], mend: Mend, bounds: Bounds, batch: bool = True) -> None:
        super().__init__(wire=wire, bounds=bounds, batch=batch)
        self._mend = mend

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if not self.is_closed:
            put_labels(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if not self.is_closed and context is not None and context.trace_flags.sampled:
            self.put(span)

    def _size_of(self, item: ReadableSpan) -> int:
        return rough_bytes(item)

    def _ready(self, item: ReadableSpan) -> ReadableSpan:
        try:
            return self._mend(item)
        except Exception:
            _log.exception("a span could not be prepared; it is sent unchanged")
            return item
