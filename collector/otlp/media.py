"""Content-Type and Content-Encoding of an OTLP/HTTP body. Pure: bytes in, bytes out.

Source: OTLP 1.11 "OTLP/HTTP Request" (H2, H3, H4 in the conformance table), RFC 9110 section 8.
"""

import gzip
import sys
import zlib
from enum import StrEnum
from typing import Any

from collector.model.errors import Reason, Rejected

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# how much one step inflates: the most that a bomb can make us hold beyond the bound
STEP_BYTES = 1024 * 1024
FEED_BYTES = 64 * 1024
# members of gzip, frames of zstd: each costs a decoder, and its least is 9 bytes
MAX_MEMBERS = 1000


class OverLimit(Rejected):
    """What comes out is over the limit that was asked for."""


class Encoding(StrEnum):
    """The two encodings of an export, by media type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"


def encoding_of(content_type: str | None) -> Encoding | None:
    """The encoding that a Content-Type names (parameters and case don't matter); None if it is neither."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    try:
        return Encoding(media_type)
    except ValueError:
        return None


def inflate(body: bytes, content_encoding: str | None, *, limit_bytes: int) -> bytes:
    """`body` without its Content-Encoding; never holds more than `limit_bytes` plus one step.

    Several codings are undone from the last to the first (RFC 9110, section 8.4).
    Takes time in proportion to what comes in and goes out, whatever the body's members or frames.
    Raises Rejected: unsupported_encoding, malformed (corrupt or cut), too_large (so are over MAX_MEMBERS).
    """
    codings = [c.strip().lower() for c in (content_encoding or "").split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if len(codings) > 2:
        raise Rejected(Reason.UNSUPPORTED_ENCODING, "more than two content codings; send one")
    for coding in reversed(codings):
        body = _inflate_one(body, coding, limit_bytes)
    return body


def _inflate_one(body: bytes, coding: str, limit_bytes: int) -> bytes:
    if coding not in ("gzip", "x-gzip", "deflate", "zstd"):
        raise Rejected(
            Reason.UNSUPPORTED_ENCODING,
            f"Content-Encoding {coding!r} is not supported; send gzip, deflate, zstd or identity",
        )
    try:
        if coding == "zstd":
            return _unzstd(body, limit_bytes)
        return _unzlib(body, _window_bits(body, coding), limit_bytes)
    except (zlib.error, zstd.ZstdError, EOFError) as error:
        raise Rejected(Reason.MALFORMED, f"the body is not valid {coding}: {error}") from error


def _window_bits(body: bytes, coding: str) -> int:
    if coding != "deflate":
        return 16 + zlib.MAX_WBITS
    # "deflate" is the zlib format (RFC 9110, 8.4.1.2); some senders leave its two-byte head away
    has_head = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return zlib.MAX_WBITS if has_head else -zlib.MAX_WBITS


def _unzlib(body: bytes, window_bits: int, limit_bytes: int) -> bytes:
    if len(body) <= FEED_BYTES and (whole := _at_once(zlib.decompressobj(window_bits), body, limit_bytes)):
        return whole
    inflated = bytearray()
    source = _Source(body)
    while not source.at_end:  # gzip may have several members (RFC 1952, 2.2)
        source.next_member("gzip members")
        member = zlib.decompressobj(window_bits)
        while not member.eof:
            piece = source.feed()
            out = member.decompress(piece, STEP_BYTES)
            _extend(inflated, out, limit_bytes)
            source.used(len(piece) - len(member.unconsumed_tail) - len(member.unused_data))
            if not out and source.at_end and not member.eof:
                raise EOFError("it ends too early")
        if not source.at_end and window_bits <= zlib.MAX_WBITS:
            raise EOFError("bytes follow its end")
    return bytes(inflated)


def _unzstd(body: bytes, limit_bytes: int) -> bytes:
    if len(body) <= FEED_BYTES and (whole := _at_once(_zstd_frame(), body, limit_bytes)):
        return whole
    inflated = bytearray()
    source = _Source(body)
    while not source.at_end:  # frames may follow each other (RFC 8878, 3.1)
        source.next_member("zstd frames")
        frame = _zstd_frame()
        while not frame.eof:
            piece = source.feed() if frame.needs_input else b""
            if frame.needs_input and not piece:
                raise EOFError("it ends too early")
            _extend(inflated, frame.decompress(piece, STEP_BYTES), limit_bytes)
            source.used(len(piece) - len(frame.unused_data))
    return bytes(inflated)


def _zstd_frame() -> zstd.ZstdDecompressor:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 27})


def _at_once(decoder: Any, body: bytes, limit_bytes: int) -> bytes | None:
    """What one member holds that is all of the body, and no larger than one step; else None."""
    inflated: bytes = decoder.decompress(body, min(STEP_BYTES, limit_bytes))
    return inflated if decoder.eof and not decoder.unused_data else None


class _Source:
    """A compressed body, fed in pieces: what a decoder leaves of one is copied, so a piece must be small."""

    def __init__(self, body: bytes) -> None:
        if not body:
            raise EOFError("it is empty")
        self._body = memoryview(body)
        self._at = 0
        self._members = 0

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._body)

    def feed(self) -> memoryview:
        """What comes next; it stays next until it is said to be used."""
        return self._body[self._at : self._at + FEED_BYTES]

    def used(self, size_bytes: int) -> None:
        self._at += size_bytes

    def next_member(self, what: str) -> None:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise Rejected(
                Reason.TOO_LARGE, f"the body has over {MAX_MEMBERS} {what}; compress a request as one"
            )


def _extend(inflated: bytearray, piece: bytes, limit_bytes: int) -> None:
    if len(inflated) + len(piece) > limit_bytes:
        raise OverLimit(
            Reason.TOO_LARGE,
            f"the body is over {limit_bytes} bytes after decompression; send smaller batches",
        )
    inflated += piece


def compress_gzip(body: bytes) -> bytes:
    """`body` as gzip at the speed that suits a request on the way to MLflow."""
    return gzip.compress(body, compresslevel=1, mtime=0)
