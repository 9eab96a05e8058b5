"""The access log and the audit log: one JSON object a line, in files that rotate or on standard output.

Both have the same line; the audit log has only those of writes, deletes, spending, administration and
denials. Queries and bodies are in neither: they hold content.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Protocol

FLUSH_SECONDS = 0.2
MAX_WAITING_BYTES = 64 * 1024
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What became of one request. `decision`: allowed, observed (a denial that wasn't enforced), denied,
    refused (not looked at: malformed, from a foreign page), unauthenticated, failed (no answer from
    MLflow), gone.
    """

    client: str
    source: str
    peer: str
    method: str
    path: str
    resource: str
    action: str
    experiments: Sequence[str]
    decision: str
    rule: str
    status: int
    request_bytes: int
    answer_bytes: int
    seconds: float
    message: str = ""

    @property
    def is_audited(self) -> bool:
        """Whether it goes to the audit log too."""
        return self.action != "read" or self.decision not in ("allowed", "gone", "failed")

    def to_json(self, now: datetime) -> dict[str, Any]:
        """As it is written."""
        told = {"message": self.message} if self.message else {}
        return {  # by hand: dataclasses.asdict costs as much as the rest of a request
            "time": now.isoformat(timespec="milliseconds"),
            "client": self.client,
            "source": self.source,
            "peer": self.peer,
            "method": self.method,
            "path": self.path,
            "resource": self.resource,
            "action": self.action,
            "experiments": self.experiments,
            "decision": self.decision,
            "rule": self.rule,
            "status": self.status,
            "request_bytes": self.request_bytes,
            "answer_bytes": self.answer_bytes,
            "seconds": round(self.seconds, 6),
        } | told


class WritesRequests(Protocol):
    """Where requests are written down."""

    def write(self, line: Line) -> None:
        """Note what became of one request. Never fails it."""


class RequestLog:
    """The two files; either may be None. Raises OSError on opening."""

    def __init__(self, *, access: Path | None, audit: Path | None, max_bytes: int, max_files: int) -> None:
        self._access = _open(access, max_bytes, max_files)
        self._audit = _open(audit, max_bytes, max_files)

    def write(self, line: Line) -> None:
        """Add a line where it belongs. A disk that is full costs the line, never the request."""
        files = (self._access, self._audit if line.is_audited else None)
        if files == (None, None):
            return
        text = _encode(line.to_json(datetime.now(UTC))) + "\n"
        for file in files:
            if file is not None:
                file.lines.add(text, at_once=line.is_audited)

    def close(self) -> None:
        """Nothing is written after this."""
        for file in (self._access, self._audit):
            if file is not None:
                file.close()


class RequestLogOnStdout:
    """Both logs as one stream on standard output, each line with its `log`: "access" or "audit".

    A line of the audit log is not repeated as one of the access log.
    """

    def __init__(self, *, access: bool, audit: bool) -> None:
        self._access, self._audit = access, audit
        self._lines = _Lines(_print, max_bytes=MAX_WAITING_BYTES)

    def write(self, line: Line) -> None:
        """Add a line if one of the logs has it."""
        is_audit = self._audit and line.is_audited
        if is_audit or self._access:
            document = {"log": "audit" if is_audit else "access"} | line.to_json(datetime.now(UTC))
            self._lines.add(_encode(document) + "\n", at_once=is_audit)

    def close(self) -> None:
        """Write what waits."""
        self._lines.flush()


def _print(text: str) -> None:
    with suppress(OSError):  # nobody reads it any more
        sys.stdout.write(text)
        sys.stdout.flush()


class _Lines:
    """Lines that wait a moment for others, and are then written together."""

    def __init__(self, write: Callable[[str], None], *, max_bytes: int) -> None:
        self._write = write
        self._max_bytes = max_bytes
        self._waiting: list[str] = []
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, text: str, *, at_once: bool) -> None:
        """Write a line, or let it wait."""
        if self._waiting_bytes + len(text) > self._max_bytes:
            self.flush()
        self._waiting.append(text)
        self._waiting_bytes += len(text)
        if at_once:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        text, self._waiting, self._waiting_bytes = "".join(self._waiting), [], 0
        if text:
            self._write(text)


class _File(RotatingFileHandler):
    """The standard library's rotation without its records: those cost as much as a proxied request."""

    def __init__(self, file: Path, *, max_bytes: int, max_files: int) -> None:
        # the file itself is one of them
        super().__init__(file, backupCount=max_files - 1, encoding="utf-8")
        self._max_bytes = max_bytes
        self._size_bytes = file.stat().st_size
        self.lines = _Lines(self._put, max_bytes=min(MAX_WAITING_BYTES, max_bytes))

    def _put(self, text: str) -> None:
        try:
            if self._size_bytes and self._size_bytes + len(text) > self._max_bytes:
                self.doRollover()
                self._size_bytes = 0
            if self.stream is not None:
                self.stream.write(text)
                self.stream.flush()
                self._size_bytes += len(text)
        except OSError:  # the log of the service would fill the same disk
            pass

    def _open(self) -> TextIOWrapper:
        """Also after a rotation: for this user's eyes only."""
        handle = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return open(handle, "a", encoding="utf-8")

    def close(self) -> None:
        self.lines.flush()
        with suppress(OSError):  # a full disk
            super().close()


def _open(file: Path | None, max_bytes: int, max_files: int) -> _File | None:
    if file is None:
        return None
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _File(file, max_bytes=max_bytes, max_files=max_files)
