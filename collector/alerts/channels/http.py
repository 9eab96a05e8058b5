"""Channels that are a POST: webhook, Slack, Alertmanager.

Their addresses come from the settings, so they may lead anywhere, also into the private network. Redirects
are not followed.
"""

import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from collector.alerts.channels.outcomes import NoticeDeferred, NoticeOutcome, http_outcome
from collector.alerts.forms import (
    Document,
    Headers,
    alertmanager_form,
    slack_form,
    webhook_form,
)

MAX_SHOWN_BYTES = 300
ALERTMANAGER_PATH = "/api/v2/alerts"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTarget:
    """Where a channel's requests go, and what comes with each."""

    session: aiohttp.ClientSession
    url: str
    timeout_seconds: float
    tls: ssl.SSLContext | bool = True
    token: str | None = None

    async def post(self, body: bytes, headers: Headers) -> NoticeOutcome:
        """One attempt; every answer and the lack of one is an outcome, which doesn't name the address."""
        bearer = {} if self.token is None else {"authorization": f"Bearer {self.token}"}
        timeout = aiohttp.ClientTimeout(total=self.timeout_seconds)
        try:
            async with self.session.post(
                self.url,
                data=body,
                headers={"user-agent": "sidespan", **headers, **bearer},
                allow_redirects=False,
                ssl=self.tls,
                timeout=timeout,
            ) as answer:
                text = (await answer.content.read(MAX_SHOWN_BYTES)).decode("utf-8", "replace").strip()
                return http_outcome(
                    answer.status,
                    text=text,
                    retry_after=answer.headers.get("retry-after"),
                    now_unix_seconds=time.time(),
                )
        except TimeoutError:
            return NoticeDeferred(reason=f"no answer within {self.timeout_seconds:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return NoticeDeferred(
                reason=f"no connection to {urlsplit(self.url).hostname}: {type(error).__name__}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook; `key` None: unsigned."""

    target: HttpTarget
    key: bytes | None

    async def send(self, document: Document) -> NoticeOutcome:
        """One attempt."""
        body, headers = webhook_form(document, key=self.key, now_unix_seconds=int(time.time()))
        return await self.target.post(body, headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """An incoming webhook of Slack."""

    target: HttpTarget

    async def send(self, document: Document) -> NoticeOutcome:
        """One attempt."""
        return await self.target.post(*slack_form(document))


@dataclass(frozen=True, slots=True, kw_only=True)
class Alertmanager:
    """Prometheus's Alertmanager; what fires is sent again and again (`resend`)."""

    target: HttpTarget
    resend_seconds: float

    async def send(self, document: Document) -> NoticeOutcome:
        """One attempt."""
        return await self.resend([document])

    async def resend(self, documents: list[Document]) -> NoticeOutcome:
        """All of them in one request."""
        body, headers = alertmanager_form(
            documents, now_unix_ns=time.time_ns(), resend_seconds=self.resend_seconds
        )
        return await self.target.post(body, headers)
