"""E-mail by SMTP. The standard library's client is synchronous, so it works in a thread."""

import asyncio
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage

from collector.alerts.channels.outcomes import (
    NoticeDeferred,
    NoticeOutcome,
    NoticeRefused,
    NoticeSent,
    smtp_outcome,
)
from collector.alerts.forms import Document, email_form

# a dialogue has so many replies to wait for; one that takes as long as all of them together is ended
DIALOGUE_STEPS = 6
PORTS = {"starttls": 587, "tls": 465, "none": 25}


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """A mail server and who gets mail; with `security` "starttls" or "tls" nothing is sent in the clear."""

    host: str
    port: int
    security: str
    tls: ssl.SSLContext
    sender: str
    to: Sequence[str]
    timeout_seconds: float
    username: str | None = None
    password: str | None = None

    async def send(self, document: Document) -> NoticeOutcome:
        """One attempt."""
        message = email_form(document, sender=self.sender, to=self.to, now_unix_seconds=int(time.time()))
        return await asyncio.to_thread(self._send, message)

    def _send(self, message: EmailMessage) -> NoticeOutcome:
        try:
            with self._connect() as server, _ended_after(DIALOGUE_STEPS * self.timeout_seconds, server):
                if self.security == "starttls":
                    server.starttls(context=self.tls)
                if self.username is not None and self.password is not None:
                    server.login(self.username, self.password)
                server.send_message(message)
        except smtplib.SMTPResponseException as error:
            text = error.smtp_error
            shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
            return smtp_outcome(error.smtp_code, text=shown[:200])
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            return smtp_outcome(code, text=text.decode("utf-8", "replace")[:200])
        except smtplib.SMTPNotSupportedError as error:  # no STARTTLS, or no login
            return NoticeRefused(reason=str(error))
        except (smtplib.SMTPException, OSError) as error:
            return NoticeDeferred(reason=f"no mail server at {self.host}:{self.port}: {type(error).__name__}")
        return NoticeSent()

    def _connect(self) -> smtplib.SMTP:
        if self.security == "tls":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_seconds, context=self.tls)
        return smtplib.SMTP(self.host, self.port, timeout=self.timeout_seconds)


@contextmanager
def _ended_after(seconds: float, server: smtplib.SMTP) -> Iterator[None]:
    """Shut the connection down if the block takes longer: the client's own time-out begins anew with each
    byte, so a server that sends one now and then would hold its thread for hours."""

    def end() -> None:
        connection = server.sock
        with suppress(OSError):  # it is closed already
            if connection is not None:
                connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
