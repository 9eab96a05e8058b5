"""HTTP/1.1 on our port within bounds: uvicorn with httptools has none of its own.

    head      its size, its number of headers, the time until it is complete     -> 431, 408
              Host missing, there twice, or not a host                            -> 400
              Upgrade                                                             -> ignored
              CONNECT                                                             -> 405
    body      trailers and chunk extensions                                       -> 431
              the longest silence of the client                                   -> the connection is closed
    answer    the longest time in which the client takes nothing of it            -> the connection is closed

What is refused here is answered in its turn, behind the answers to earlier requests of the connection; on
OTLP paths as a google.rpc.Status in the request's encoding. Then the connection is closed. A service that
stops answers each connection once more, with `Connection: close`, rather than closing it under a request
that is on its way (RFC 9112 section 9.6).

One timer a connection looks at the deadline now and then, so that a request costs no timer of its own.
Sources: https://www.rfc-editor.org/rfc/rfc6585#section-5 (431),
https://www.rfc-editor.org/rfc/rfc9110#section-7.8 (Upgrade),
https://www.rfc-editor.org/rfc/rfc9110#section-15.5.9 (408),
https://www.rfc-editor.org/rfc/rfc9112#section-3.2 (Host).
"""

import asyncio
import fcntl
import json
import re
import struct
import termios
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from collector.otlp.media import Encoding, encoding_of
from collector.otlp.status import refusal
from collector.receivers.http import PATHS
from collector.settings import ServerSettings

# RFC 9110, section 7.2: uri-host [ ":" port ]
_HOST = re.compile(rb"(\[[\w.:~!$&'()*+,;=%-]+\]|[\w.~!$&'()*+,;=%-]*)(:[0-9]*)?\Z")


def bounded_protocol(settings: ServerSettings) -> "type[BoundedProtocol]":
    """The protocol class for uvicorn's `http`."""

    class Bounded(BoundedProtocol):
        head_seconds = settings.header_timeout_seconds
        silence_seconds = settings.body_timeout_seconds
        max_head_bytes = settings.max_head_bytes
        max_headers = settings.max_headers
        otlp_paths = frozenset(settings.root_path + path for path in PATHS) | PATHS

    return Bounded


class BoundedProtocol(HttpToolsProtocol):
    """A connection. `leaving` is set on the class: from then on each answer is the last on its connection."""

    leaving = False
    head_seconds: float
    silence_seconds: float
    max_head_bytes: int
    max_headers: int
    otlp_paths: frozenset[str]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head = False
        self._head_bytes = 0
        self._framing_bytes = 0  # since the last piece of a body
        self._to_count = False
        self._progress = False
        self._closing = False
        self._has_cycle = False  # the request that is read now was handed to the app
        self._before: RequestResponseCycle | None = None  # and this one came before it
        self._host: bytes | None = None  # the last that was a host: most connections name one only
        self._last_words = b""
        self.url = b""
        self.headers = []
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
        self._framing_bytes += len(data)
        self._parse(data)
        if self._in_head:  # not complete yet: the parser keeps what it has
            self._head_bytes += len(data)
            self._check_head()
        elif self._deadline is not None and self._framing_bytes > self.max_head_bytes:
            self._refuse(431, f"over {self.max_head_bytes} bytes of trailers or chunk extensions")

    def _parse(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        try:
            while not self._closing:
                try:
                    self.parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    rest = memoryview(rest)[upgrade.args[0] :]
                if not self._closing:
                    self._parse_without_upgrade()
        except httptools.HttpParserError:
            self._refuse(400, "Invalid HTTP request received.")

    def _parse_without_upgrade(self) -> None:
        """Read the head once more, without its Upgrade.

        The parser ends a message with its head where it finds one, and takes what follows for another
        protocol; nothing can tell it not to. A parser of its own knows nothing of that.
        """
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", self.parser.get_http_version().encode()]
        for name, value in self.headers:
            if name != b"upgrade":
                head += [b"\r\n", name, b": ", value]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.parser.feed_data(b"".join(head) + b"\r\n\r\n")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_cycle = False
        self._in_head = True
        self._head_bytes = 0
        self._deadline = self.loop.time() + self.head_seconds

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._to_count:
            self._head_bytes = len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers)
        if not self._check_head():
            return
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse(405, "CONNECT is not allowed")
            return
        self._before = self.cycle
        super().on_headers_complete()
        self.cycle.keep_alive = self.cycle.keep_alive and not self.leaving
        self._has_cycle = True
        self._framing_bytes = 0
        self.headers = []  # trailers come here; the app's list is complete (RFC 9110, section 6.5.1)
        self._deadline = self.loop.time() + self.silence_seconds

    def on_body(self, body: bytes) -> None:
        if not self._closing:
            self._progress = True
            self._framing_bytes = 0
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._has_cycle and not self._closing:  # an Upgrade's head comes once more
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
        elif len(self.headers) > self.max_headers:
            self._refuse(431, f"the request has over {self.max_headers} headers")
        elif not self._in_head:
            self._check_host()
        return not self._closing

    def _check_host(self) -> None:
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) == 1:
            if hosts[0] != self._host and not _HOST.match(hosts[0]):
                self._refuse(400, "the Host header is not a host")
            self._host = hosts[0]
        elif hosts:
            self._refuse(400, "more than one Host header")
        elif self.parser.get_http_version() == "1.1":
            self._refuse(400, "there is no Host header")

    def _refuse(self, status: int, message: str) -> None:
        """Answer without the app, after what is still to be answered, and close."""
        if self._closing:
            return
        self._closing = True
        content_type, body = self._in_form(status, message)
        status_line = cast("dict[int, Any]", STATUS_LINE)[status]
        head = (
            b"content-type: " + content_type.encode() + b"\r\nconnection: close\r\n"
            b"content-length: " + str(len(body)).encode() + b"\r\n\r\n"
        )
        self._last_words = status_line + head + body
        before = self._before if self._has_cycle else self.cycle
        if before is None or before.response_complete:
            self._hang_up()
        else:
            before.on_response = self._hang_up

    def _in_form(self, status: int, message: str) -> tuple[str, bytes]:
        if self.url.partition(b"?")[0].decode("latin-1") not in self.otlp_paths:
            document = {"error_code": "BAD_REQUEST", "message": message}
            return Encoding.JSON.value, json.dumps(document).encode()
        headers = self.scope["headers"] if self._has_cycle else self.headers
        found = next((value for name, value in headers if name == b"content-type"), b"")
        encoding = encoding_of(found.decode("latin-1")) or Encoding.JSON
        return encoding.value, refusal(status, message, encoding)

    def _hang_up(self) -> None:
        """The refusal goes out, if nothing of another answer to the same request did; then the end."""
        begun = self._has_cycle and self.cycle.response_started
        if not begun and not self.transport.is_closing():
            self.transport.write(self._last_words)
        self.transport.close()
