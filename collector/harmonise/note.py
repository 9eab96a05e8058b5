"""What one request of a trace leaves for the next: the note that the journal keeps. Pure.

A note holds what is known so far of a trace that may still be incomplete, so that its name, its session and
its usage come out right whichever of its spans MLflow gets first. It is small: texts are cut, of spans only
what counting needs is noted (seen.py), and whole ones are kept only while what MLflow was told of them may
change: a root that waits for a name from below (the span of a web server), a call that another span may
tell of again.
"""

import base64
import json
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from collector.harmonise.previews import NO_PREVIEW, Preview
from collector.harmonise.seen import SeenSpan, seen_from_json, seen_to_json

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# of the root, and of what compression makes of it: there may be 200,000 notes, one for each plain web request
MAX_ROOT_BYTES = 64 * 1024
MAX_PACKED_BYTES = 4 * 1024
# the newest of a trace
MAX_KEPT = 8
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
UNREADABLE = (
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    RecursionError,
    zlib.error,
    zstd.ZstdError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """The earliest agent or model span seen below the root: what a trace is about."""

    start_unix_ns: int
    name: str
    rank: int = 0
    span_id: str = ""

    @property
    def order(self) -> tuple[int, int, str]:
        """As `telling_order` of its facts."""
        return self.start_unix_ns, self.rank, self.span_id


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSpan:
    """A span as the client sent it, for MLflow to be told another time: a compressed ResourceSpans."""

    span_id: str
    packed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is known of a trace.

    `counted`: model calls with tokens were among its spans; `root` is a serialized ResourceSpans with the
    root alone; `first_root` says which of several it is that began first: its start and id. `seen` are the
    spans that MLflow has, `kept` those of them that may have to be sent once more; of a trace that came
    as a whole `calls` alone are noted, the ids of its model calls.
    """

    session: str | None = None
    conversation: str | None = None
    user: str | None = None
    telling: Telling | None = None
    preview: Preview = NO_PREVIEW
    counted: bool = False
    root_seen: bool = False
    root: bytes | None = None
    trace_name: str | None = None
    first_root: tuple[int, str] | None = None
    seen: tuple[SeenSpan, ...] = ()
    kept: tuple[KeptSpan, ...] = ()
    calls: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """JSON; `from_bytes` reads it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.telling is not None:
            told = self.telling
            values["telling"] = [told.start_unix_ns, told.name, told.rank, told.span_id]
        values["preview"] = self.preview.to_json() if self.preview != NO_PREVIEW else None
        if self.root is not None:
            values["root"] = _packed(self.root)
        if self.seen:
            values["seen"] = seen_to_json(self.seen)
        values["kept"] = [[each.span_id, base64.b64encode(each.packed).decode()] for each in self.kept]
        known = {name: value for name, value in values.items() if value}
        # what can't be encoded would keep the whole trace from being delivered
        return _encode(known).encode("utf-8", "replace")

    @staticmethod
    def from_bytes(content: bytes) -> "Note":
        """The note; one that can't be read (of a later version, say) is an empty one."""
        try:
            values = json.loads(content)
            telling, root = values.get("telling"), values.get("root")
            preview = values.get("preview")
            return Note(
                session=values.get("session"),
                conversation=values.get("conversation"),
                user=values.get("user"),
                telling=telling and _telling(telling),
                preview=Preview.from_json(preview) if preview else NO_PREVIEW,
                counted=bool(values.get("counted")),
                root_seen=bool(values.get("root_seen")),
                root=_unpacked(root) if root else None,
                trace_name=values.get("trace_name"),
                first_root=_first_root(values.get("first_root")),
                seen=seen_from_json(values.get("seen", ())),
                calls=tuple(map(str, values.get("calls", ()))),
                kept=tuple(
                    KeptSpan(span_id=id, packed=base64.b64decode(packed))
                    for id, packed in values.get("kept", ())
                ),
            )
        except UNREADABLE:
            return Note()


def keep(
    spans: Sequence[tuple[str, bytes]], before: Sequence[KeptSpan], *, max_bytes: int
) -> tuple[KeptSpan, ...]:
    """`spans` (id, serialized ResourceSpans) and those kept `before`; of all the newest, compressed."""
    ids = {id for id, _ in spans}
    packed = [
        KeptSpan(span_id=id, packed=zstd.compress(content, level=1))
        for id, content in spans[-MAX_KEPT:]
        if len(content) <= MAX_ROOT_BYTES
    ]
    kept: list[KeptSpan] = []
    size = 0
    for each in [*reversed(packed), *(each for each in before if each.span_id not in ids)]:
        if len(kept) < MAX_KEPT and size + len(each.packed) <= max_bytes:
            kept.append(each)
            size += len(each.packed)
    return tuple(kept)


def unpacked(kept: KeptSpan) -> bytes:
    """The serialized ResourceSpans. Raises zstd.ZstdError."""
    return zstd.ZstdDecompressor().decompress(kept.packed, MAX_ROOT_BYTES)


def _telling(values: Sequence[int | str | None]) -> Telling:
    names = ("start_unix_ns", "name", "rank", "span_id")
    told: dict[str, Any] = dict(zip(names, values, strict=False))
    return Telling(**told)


def _first_root(values: Sequence[Any] | None) -> tuple[int, str] | None:
    return None if not values else (int(values[0]), str(values[1]))


def _packed(root: bytes) -> str | None:
    packed = zlib.compress(root) if len(root) <= MAX_ROOT_BYTES else b""
    return base64.b64encode(packed).decode() if 0 < len(packed) <= MAX_PACKED_BYTES else None


def _unpacked(text: str) -> bytes:
    return zlib.decompressobj().decompress(base64.b64decode(text), MAX_ROOT_BYTES)
