"""Content-Type and Content-Encoding of an OTLP/HTTP body. Pure: bytes in, bytes out.

Source: OTLP 1.11 "OTLP/HTTP Request" (H2, H3, H4 in the conformance table), RFC 9110 section 8.
"""

import gzip
import sys
import zlib
from enum import StrEnum

from collector.model.errors import Reason, Rejected

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# how much one step inflates: the most that a bomb can make us hold beyond the bound
STEP_BYTES = 1024 * 1024


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
    Raises Rejected: unsupported_encoding, malformed (corrupt or cut), too_large.
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
    inflated = bytearray()
    rest = body
    while rest:  # gzip may have several members (RFC 1952, 2.2)
        member = zlib.decompressobj(window_bits)
        while not member.eof:
            piece = member.decompress(rest, STEP_BYTES)
            rest = member.unconsumed_tail
            _extend(inflated, piece, limit_bytes)
            if not piece and not rest and not member.eof:
                raise EOFError("it ends too early")
        rest = member.unused_data
        if rest and window_bits <= zlib.MAX_WBITS:
            raise EOFError("bytes follow its end")
    if not body:
        raise EOFError("it is empty")
    return bytes(inflated)


def _unzstd(body: bytes, limit_bytes: int) -> bytes:
    inflated = bytearray()
    rest = body
    while rest:  # frames may follow each other (RFC 8878, 3.1)
        frame = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 27})
        chunk = rest
        while not frame.eof:
            piece = frame.decompress(chunk, STEP_BYTES)
            chunk = b""
            _extend(inflated, piece, limit_bytes)
            if not piece and frame.needs_input:
                raise EOFError("it ends too early")
        rest = frame.unused_data
    if not body:
        raise EOFError("it is empty")
    return bytes(inflated)


def _extend(inflated: bytearray, piece: bytes, limit_bytes: int) -> None:
    if len(inflated) + len(piece) > limit_bytes:
        raise Rejected(
            Reason.TOO_LARGE,
            f"the body is over {limit_bytes} bytes after decompression; send smaller batches",
        )
    inflated += piece


def compress_gzip(body: bytes) -> bytes:
    """`body` as gzip at the speed that suits a request on the way to MLflow."""
    return gzip.compress(body, compresslevel=1, mtime=0)
