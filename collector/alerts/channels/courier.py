"""Carries the notifications of one channel from the outbox, the oldest first, until cancelled.

    first -> send -> sent | failed, and a pause | dead letter

The order is kept: nobody hears of a recovery before the firing. A notification that is refused for good, or
that is too old when an attempt fails, becomes a dead letter.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from collector.alerts.channels.http import Alertmanager
from collector.alerts.channels.outcomes import (
    NoticeDeferred,
    NoticeOutcome,
    NoticeRefused,
    NoticeSent,
)
from collector.alerts.forms import Document
from collector.alerts.notices import Notice
from collector.alerts.store import AlertStore, PendingNotice
from collector.delivery.backoff import delay_seconds
from collector.settings.alerts import AlertingSettings
from collector.telemetry.metrics import Metrics

_log = logging.getLogger("sidespan.alerts")

# of firing alerts in one request to Alertmanager
RESEND_BATCH = 100
ShowsDocument = Callable[[Notice], Document]


class Sends(Protocol):
    """A channel."""

    async def send(self, document: Document) -> NoticeOutcome:
        """One attempt."""


@dataclass(slots=True, kw_only=True)
class Courier:
    """One channel's courier.

    `document` is what the channel gets of a notice, `firing` what it was told of all that fires.
    """

    name: str
    channel: Sends
    document: ShowsDocument
    firing: Callable[[], Sequence[Notice]]
    store: AlertStore
    settings: AlertingSettings
    metrics: Metrics
    clock: Callable[[], int]
    news: asyncio.Event = field(default_factory=asyncio.Event)
    last_error: str | None = None

    async def run(self) -> None:
        """Send what waits; to Alertmanager also what fires, at intervals."""
        attempt = 0
        while True:
            self.news.clear()
            pending = await asyncio.to_thread(self.store.first, self.name)
            if pending is None:
                await self._resend()
                await self._wait_for_news()
                continue
            outcome = await self._send(pending)
            await asyncio.to_thread(self._settle, pending, outcome)
            attempt = attempt + 1 if isinstance(outcome, NoticeDeferred) else 0
            if isinstance(outcome, NoticeDeferred):
                await asyncio.sleep(self._pause_seconds(attempt, outcome))

    async def _send(self, pending: PendingNotice) -> NoticeOutcome:
        """One attempt; a bug in the making of a message must not hold up all that come after it."""
        try:
            return await self.channel.send(self.document(pending.notice))
        except Exception as error:
            _log.exception("a notification can't be made", extra={"channel": self.name})
            return NoticeRefused(reason=f"it could not be made: {type(error).__name__}")

    def _settle(self, pending: PendingNotice, outcome: NoticeOutcome) -> None:
        """Write what became of an attempt."""
        about = {"channel": self.name, "alert": pending.notice.alert}
        self.last_error = None if isinstance(outcome, NoticeSent) else outcome.reason
        match outcome:
            case NoticeSent():
                self.store.sent(pending.sequence)
                self._count("sent")
            case NoticeRefused(reason=reason):
                self._park(pending, reason)
            case NoticeDeferred(reason=reason):
                if not pending.attempts:
                    _log.warning("a channel takes no notifications", extra={**about, "reason": reason})
                if self.clock() - pending.created_unix_ns > self.settings.give_up_seconds * 1e9:
                    self._park(pending, reason)
                else:
                    self.store.failed(pending.sequence)
                    self._count("deferred")
            case _ as never:
                assert_never(never)

    def _park(self, pending: PendingNotice, reason: str) -> None:
        about = {"channel": self.name, "alert": pending.notice.alert, "reason": reason}
        _log.error("a notification is given up", extra=about)
        self.store.park(pending.sequence, reason, now_unix_ns=self.clock())
        self._count("dead_letter")

    def _count(self, outcome: str) -> None:
        self.metrics.alert_notifications.labels(channel=self.name, outcome=outcome).inc()

    def _pause_seconds(self, attempt: int, outcome: NoticeDeferred) -> float:
        return delay_seconds(
            attempt,
            initial_seconds=self.settings.backoff_initial_seconds,
            max_seconds=self.settings.backoff_max_seconds,
            jitter=random.random(),
            at_least_seconds=outcome.retry_after_seconds,
        )

    async def _wait_for_news(self) -> None:
        seconds = self.channel.resend_seconds if isinstance(self.channel, Alertmanager) else None
        with suppress(TimeoutError):
            await asyncio.wait_for(self.news.wait(), seconds)

    async def _resend(self) -> None:
        """Alertmanager forgets what it isn't told again. The outbox is empty, so nothing is out of order."""
        if not isinstance(self.channel, Alertmanager):
            return
        documents = [self.document(notice) for notice in self.firing()]
        for begin in range(0, len(documents), RESEND_BATCH):
            outcome = await self.channel.resend(documents[begin : begin + RESEND_BATCH])
            self.last_error = None if isinstance(outcome, NoticeSent) else outcome.reason
            self._count("sent" if isinstance(outcome, NoticeSent) else "deferred")
