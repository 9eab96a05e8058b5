"""Frames on the socket between the service and its decoder.

    length of the head (4 bytes) | head in JSON, with the size of what follows | bytes

To the decoder: first {"receiver", "routing", "processors", "memory_bytes"} from the settings, then an export
at a time, {"encoding", "content_encoding", "headers", "signal"} and its body. Back, for each:

    {"error", "message"}                            refused; "error" is a Reason, or empty for a bug
    {"parts", "rejections"}                         prepared; the bytes: trace ids, payload, part by part

A part is {"route", "spans", "traces", "size", "as_sent"}: `as_sent`, its payload is the body that came, and
isn't sent back. Rejections are counted by reason, with the first message of each.
"""

import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

LENGTH_BYTES = 4
PIECE_BYTES = 1024 * 1024
TRACE_ID_BYTES = 16

Bytes = bytes | memoryview


def send(connection: socket.socket, head: Mapping[str, Any], chunks: Sequence[Bytes]) -> None:
    """Raises OSError."""
    text = json.dumps({**head, "bytes": sum(map(len, chunks))}).encode()
    connection.sendall(len(text).to_bytes(LENGTH_BYTES, "big") + text)
    for chunk in chunks:
        connection.sendall(chunk)


def receive_head(connection: socket.socket) -> dict[str, Any]:
    """What the next frame says; its bytes are still to come. Raises OSError, EOFError."""
    length = int.from_bytes(receive_exactly(connection, LENGTH_BYTES), "big")
    head: dict[str, Any] = json.loads(bytes(receive_exactly(connection, length)))
    return head


def receive_exactly(connection: socket.socket, size_bytes: int) -> memoryview:
    """Raises OSError, EOFError."""
    into = memoryview(bytearray(size_bytes))
    at = 0
    while at < size_bytes:
        got = connection.recv_into(into[at:])
        if not got:
            raise EOFError("the other side is gone")
        at += got
    return into


def receive_pieces(connection: socket.socket, size_bytes: int) -> list[bytes]:
    """The same in pieces, of which each can be let go by itself."""
    return [
        bytes(receive_exactly(connection, min(PIECE_BYTES, size_bytes - at)))
        for at in range(0, size_bytes, PIECE_BYTES)
    ]
