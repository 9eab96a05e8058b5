"""The access log and the audit log: one JSON object a line, in files that rotate.

Both have the same line; the audit log has only those of writes, deletes, administration and denials. Queries
and bodies are in neither: they hold content.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any


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
        document = {"time": now.isoformat(timespec="milliseconds"), **asdict(self)}
        document["seconds"] = round(self.seconds, 6)
        if not self.message:
            del document["message"]
        return document


class RequestLog:
    """The two files; either may be None. Raises OSError on opening."""

    def __init__(self, *, access: Path | None, audit: Path | None, max_bytes: int, max_files: int) -> None:
        self._access = _open(access, max_bytes, max_files)
        self._audit = _open(audit, max_bytes, max_files)

    def write(self, line: Line) -> None:
        """Add a line where it belongs. A disk that is full costs the line, never the request."""
        handlers = [self._access, self._audit if line.is_audited else None]
        if not any(handlers):
            return
        text = json.dumps(line.to_json(datetime.now(UTC)), ensure_ascii=False, separators=(",", ":"))
        record = logging.LogRecord("sidespan.access", logging.INFO, "", 0, text, None, None)
        for handler in handlers:
            if handler is not None:
                handler.handle(record)

    def close(self) -> None:
        """Nothing is written after this."""
        for handler in (self._access, self._audit):
            if handler is not None:
                handler.close()


class _File(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: the log of the service would fill the same disk."""


def _open(file: Path | None, max_bytes: int, max_files: int) -> RotatingFileHandler | None:
    if file is None:
        return None
    file.parent.mkdir(parents=True, exist_ok=True)
    # the file itself is one of them
    return _File(file, maxBytes=max_bytes, backupCount=max_files - 1, encoding="utf-8")
