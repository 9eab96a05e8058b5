"""The decoder's process: one export at a time, as bytes in and bytes out.

Its memory is bounded by the system (RLIMIT_AS), its time per export too (RLIMIT_CPU): an export that takes
more is refused, and costs this process at the most. It leaves when the service closes the socket, when
nothing came for a while, and when an export left it larger than it was: so memory goes back for certain.
"""

import json
import os
import resource
import signal
import socket
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from collector.model.batch import Rejection, Signal
from collector.model.errors import Reason, Rejected
from collector.otlp.media import Encoding
from collector.processors.redact import REDACTION_FAILED, redactor
from collector.receivers.decoder.frames import TRACE_ID_BYTES, Bytes, receive_head, receive_pieces, send
from collector.receivers.prepare import Prepared, Rules, prepare_whole
from collector.settings import ReceiverSettings, RoutingSettings
from collector.settings.processors import RedactSettings
from collector.telemetry.fault_log import FaultLog
from collector.telemetry.logs import configure_logs

IDLE_SECONDS = 30.0
CPU_SECONDS = 30
# so much may stay after an export
KEEP_BYTES = 32 * 1024 * 1024
# the service's answers come first
NICENESS = 5
VIRTUAL, RESIDENT = 0, 1


def main() -> None:
    """Serve the socket whose number is the only argument."""
    # a signal for the whole group is the service's affair: it finishes what it has, then closes the socket
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    with socket.socket(fileno=int(sys.argv[1])) as connection, suppress(OSError, EOFError):
        _serve(connection)


def _serve(connection: socket.socket) -> None:
    given = receive_head(connection)
    configure_logs(level=given["log"]["level"], format=given["log"]["format"])
    fault_log = FaultLog()
    rules = rules_of(given, fault_log)
    _bound_memory(given["memory_bytes"])
    small = _statm(RESIDENT) + KEEP_BYTES
    connection.settimeout(IDLE_SECONDS)
    while _statm(RESIDENT) <= small:
        head = receive_head(connection)
        _bound_time()
        connection.settimeout(None)
        try:
            answer, chunks = _answer(head, receive_pieces(connection, head["bytes"]), rules, fault_log)
        except MemoryError:
            send(connection, too_much_memory(given["memory_bytes"]), ())
            return
        send(connection, answer, chunks)
        del answer, chunks
        connection.settimeout(IDLE_SECONDS)


def rules_of(given: Mapping[str, Any], fault_log: FaultLog) -> Rules:
    """The settings as they came over the socket."""
    return Rules(
        limits=ReceiverSettings.model_validate(given["receiver"]),
        routing=RoutingSettings.model_validate(given["routing"]),
        redact=redactor(
            TypeAdapter(tuple[RedactSettings, ...]).validate_json(json.dumps(given["processors"])),
            partial(fault_log.tell_of, REDACTION_FAILED),
        ),
    )


def _answer(
    head: Mapping[str, Any], chunks: list[bytes], rules: Rules, fault_log: FaultLog
) -> tuple[dict[str, Any], Sequence[Bytes]]:
    encoding, signal = Encoding(head["encoding"]), Signal(head["signal"])
    content_encoding = head["content_encoding"]
    try:
        prepared = prepare_whole(chunks, encoding, content_encoding, head["headers"], rules, signal=signal)
    except Rejected as error:
        return {"error": error.reason.value, "message": str(error)}, ()
    except MemoryError:
        raise
    except Exception as error:
        fault_log.tell_of("an export could not be processed", error)
        return {"bug": "internal error in the decoder; its log has the traceback"}, ()
    kept = encoding is Encoding.PROTOBUF and not content_encoding and not rules.redact
    return pack(prepared, kept=kept and not prepared.rejections and len(prepared.drafts) == 1)


def pack(prepared: Prepared, *, kept: bool) -> tuple[dict[str, Any], Sequence[Bytes]]:
    """The head and the bytes of an answer. `kept`: the only payload is the body as it came."""
    parts: list[dict[str, Any]] = []
    chunks: list[Bytes] = []
    for route, draft in prepared.drafts:
        parts.append(
            {
                "route": route.to_json(),
                "spans": draft.span_count,
                "traces": len(draft.trace_ids),
                "size": 0 if kept else len(draft.payload),
                "as_sent": kept,
            }
        )
        chunks.append(b"".join(draft.trace_ids))
        if not kept:
            chunks.append(draft.payload)
    assert all(len(id) == TRACE_ID_BYTES for _, draft in prepared.drafts for id in draft.trace_ids)
    return {"parts": parts, "rejections": _counted(prepared.rejections)}, chunks


def _counted(rejections: Sequence[Rejection]) -> list[tuple[str, str, int]]:
    """Reason, first message and count of each; there may be 100,000 of them."""
    counts = Counter(rejection.reason for rejection in rejections)
    first: dict[Reason, str] = {}
    for rejection in rejections:
        first.setdefault(rejection.reason, rejection.message)
    return [(reason.value, message, counts[reason]) for reason, message in first.items()]


def too_much_memory(memory_bytes: int) -> dict[str, Any]:
    """The answer to an export that takes more than there is."""
    message = f"reading the body takes over {memory_bytes} bytes of memory; send smaller batches"
    return {"error": Reason.TOO_LARGE.value, "message": message}


def _bound_memory(size_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if used := _statm(VIRTUAL):
        resource.setrlimit(resource.RLIMIT_AS, (used + size_bytes, resource.RLIM_INFINITY))


def _bound_time() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def _statm(field: int) -> int:
    """Bytes of memory of this process; 0 where the system doesn't say."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[field]) * resource.getpagesize()
    except OSError:
        return 0
