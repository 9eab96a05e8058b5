"""What one request of a trace leaves for the next: the note that the journal keeps. Pure.

A note holds what is known so far of a trace that may still be incomplete, so that its name and its session
come out right whichever of its spans MLflow gets first. It is small: texts are cut, and the root itself
is kept only while it waits for a name from below (the span of a web server).
"""

import base64
import json
import zlib
from dataclasses import dataclass, fields

from collector.harmonise.previews import NO_PREVIEW, Preview

# of the root, and of what compression makes of it: there may be 200,000 notes, one for each plain web request
MAX_ROOT_BYTES = 64 * 1024
MAX_PACKED_BYTES = 4 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """The earliest agent or model span seen below the root: what a trace is about."""

    start_unix_ns: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is known of a trace.

    `counted`: model calls with tokens were among its spans; `root` is a serialized ResourceSpans with the
    root alone.
    """

    session: str | None = None
    conversation: str | None = None
    user: str | None = None
    telling: Telling | None = None
    preview: Preview = NO_PREVIEW
    counted: bool = False
    root_seen: bool = False
    root: bytes | None = None

    def to_bytes(self) -> bytes:
        """JSON; `from_bytes` reads it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.telling is not None:
            told = self.telling
            values["telling"] = [told.start_unix_ns, told.name]
        values["preview"] = self.preview.to_json() if self.preview != NO_PREVIEW else None
        if self.root is not None:
            values["root"] = _packed(self.root)
        known = {name: value for name, value in values.items() if value}
        # what can't be encoded would keep the whole trace from being delivered
        return json.dumps(known, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    @staticmethod
    def from_bytes(content: bytes) -> "Note":
        """The note; one that can't be read (of a later version, say) is an empty one."""
        try:
            values = json.loads(content)
            telling = values.get("telling")
            root, preview = values.get("root"), values.get("preview")
            return Note(
                session=values.get("session"),
                conversation=values.get("conversation"),
                user=values.get("user"),
                telling=telling and Telling(start_unix_ns=telling[0], name=telling[1]),
                preview=Preview.from_json(preview) if preview else NO_PREVIEW,
                counted=bool(values.get("counted")),
                root_seen=bool(values.get("root_seen")),
                root=_unpacked(root) if root else None,
            )
        except (ValueError, TypeError, AttributeError, IndexError, KeyError, RecursionError, zlib.error):
            return Note()


def _packed(root: bytes) -> str | None:
    packed = zlib.compress(root) if len(root) <= MAX_ROOT_BYTES else b""
    return base64.b64encode(packed).decode() if 0 < len(packed) <= MAX_PACKED_BYTES else None


def _unpacked(text: str) -> bytes:
    return zlib.decompressobj().decompress(base64.b64decode(text), MAX_ROOT_BYTES)
