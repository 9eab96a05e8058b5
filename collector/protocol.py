"""HTTP/1.1 on our port within bounds: uvicorn with httptools has none of its own.

    head      its size, its number of headers, the time until it is complete     -> 431, 408
    body      the longest silence of the client                                   -> the connection is closed
    answer    the longest time in which the client takes nothing of it            -> the connection is closed

A service that stops answers each connection once more, with `Connection: close`, rather than closing it under
a request that is on its way (RFC 9112 section 9.6).

One timer a connection looks at the deadline now and then, so that a request costs no timer of its own.
Sources: RFC 6585 section 5 (431), RFC 9110 section 15.5.9 (408).
"""

import asyncio
import fcntl
import json
import struct
import termios
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from collector.settings import Server


def bounded_protocol(settings: Server) -> "type[BoundedProtocol]":
    """The protocol class for uvicorn's `http`."""

    class Bounded(BoundedProtocol):
        head_seconds = settings.header_timeout_seconds
        silence_seconds = settings.body_timeout_seconds
        max_head_bytes = settings.max_head_bytes
        max_headers = settings.max_headers

    return Bounded


class BoundedProtocol(HttpToolsProtocol):
    """A connection. `leaving` is set on the class: from then on each answer is the last on its connection."""

    leaving = False
    head_seconds: float
    silence_seconds: float
    max_head_bytes: int
    max_headers: int

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head = False
        self._head_bytes = 0
        self._to_count = False
        self._progress = False
        self._closing = False
        self._stalled_at: float | None = None
        self._deadline: float | None = self.loop.time() + self.head_seconds
        self._timer = self.loop.call_later(self.head_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        # a head that comes whole in a small piece is small: most need no counting
        self._to_count = self._in_head or len(data) > self.max_head_bytes
        super().data_received(data)
        if self._in_head:  # not complete yet: the parser keeps what it has
            self._head_bytes += len(data)
            self._check_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._deadline = self.loop.time() + self.head_seconds

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._to_count:
            self._head_bytes = len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers)
        if self._check_head():
            super().on_headers_complete()
            self.cycle.keep_alive = self.cycle.keep_alive and not self.leaving
            self._deadline = self.loop.time() + self.silence_seconds

    def on_body(self, body: bytes) -> None:
        if not self._closing:
            self._progress = True
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._closing:
            self._deadline = None
            super().on_message_complete()

    def answer_last(self) -> None:
        """The answer that is being worked on is the last, if its head isn't on its way already."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def close_if_idle(self) -> None:
        """Close, unless a request is being answered, arriving, or waiting to be read."""
        socket = self.transport.get_extra_info("socket")
        waiting = fcntl.ioctl(socket.fileno(), termios.FIONREAD, bytes(4)) if socket is not None else bytes(4)
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self._in_head and not struct.unpack("i", waiting)[0]:
            self.transport.close()

    def pause_writing(self) -> None:
        self._stalled_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_at = None
        super().resume_writing()

    def _look(self) -> None:
        """Is the client late? If not, look again later."""
        now = self.loop.time()
        if self._progress:  # since the last look
            self._progress = False
            if self._deadline is not None:
                self._deadline = now + self.silence_seconds
        if self._stalled_at is not None and now - self._stalled_at > self.silence_seconds:
            self.transport.abort()
            return
        if self._deadline is not None and now >= self._deadline and not self.flow.read_paused:
            if self._in_head:
                self._refuse(408, f"the head of the request took over {self.head_seconds:g} seconds")
            else:
                self.transport.close()
            return
        wait = self.head_seconds if self._deadline is None else max(self._deadline - now, 0.05)
        self._timer = self.loop.call_later(wait, self._look)

    def _check_head(self) -> bool:
        if self._head_bytes > self.max_head_bytes:
            self._refuse(431, f"the head of the request is over {self.max_head_bytes} bytes")
        elif self.headers is not None and len(self.headers) > self.max_headers:
            self._refuse(431, f"the request has over {self.max_headers} headers")
        return not self._closing

    def _refuse(self, status: int, message: str) -> None:
        """Answer without the app, and close."""
        self._closing = True
        body = json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode()
        status_line = cast("dict[int, Any]", STATUS_LINE)[status]
        head = (
            b"content-type: application/json\r\nconnection: close\r\n"
            b"content-length: " + str(len(body)).encode() + b"\r\n\r\n"
        )
        self.transport.write(status_line + head + body)
        self.transport.close()
