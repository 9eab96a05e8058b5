"""Which partition a trace belongs to, and drafts split so that each record has one partition. Pure.

The key is the trace id in hexadecimal and its hash Sarama's FNV-1a, as in what the OpenTelemetry Collector's
exporter writes with `partition_traces_by_id`:
https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/kafkaexporter
A draft of several traces is split by partition, not by trace: fewer records, and the promise is the same.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from collector.model.batch import MAX_ENTRY_BYTES, Draft, merge, signal_of
from collector.model.errors import Reason, Rejected
from collector.otlp.shapes import SHAPES, SignalShape

_OFFSET_BASIS, _PRIME = 2166136261, 16777619
_SIGN_BIT = 2**31
ID_BYTES = 16

Part = TypeVar("Part", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A draft that one record can hold, with the partition that it goes to."""

    partition: int
    draft: Draft

    @property
    def key(self) -> bytes | None:
        """The trace id, where the record holds one trace; else none, for the partition is given."""
        ids = self.draft.trace_ids
        return key_of(next(iter(ids))) if len(ids) == 1 else None


def key_of(trace_id: bytes) -> bytes:
    """The key of a trace's records."""
    return trace_id.hex().encode()


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Sarama's hash partitioner and librdkafka's `fnv1a` choose it."""
    hashed = _OFFSET_BASIS
    for byte in key:
        hashed = (hashed ^ byte) * _PRIME & 0xFFFFFFFF
    signed = hashed - 2 * _SIGN_BIT if hashed & _SIGN_BIT else hashed
    return abs(signed) % partitions


def place(drafts: Sequence[Draft], *, partitions: int, max_bytes: int) -> list[Placed]:
    """What to write for `drafts`: joined by partition, lane and client, split where traces go apart.

    Raises Rejected (too_large): a single span or log record has more than `max_bytes`.
    """
    by_partition: defaultdict[int, list[Draft]] = defaultdict(list)
    wanted_bytes = min(MAX_ENTRY_BYTES, max_bytes)
    for draft in drafts:
        for partition, part in _apart(draft, partitions):
            by_partition[partition] += _fitting(part, wanted_bytes, max_bytes)
    return [
        Placed(partition=partition, draft=draft)
        for partition, parts in by_partition.items()
        for draft in merge(parts, max_bytes=wanted_bytes, id_bytes=ID_BYTES)
    ]


def home_of(trace_ids: frozenset[bytes], lane: str, partitions: int) -> int:
    """The partition of what is about these traces; about none: of its lane."""
    return partition_of(key_of(min(trace_ids)) if trace_ids else lane.encode(), partitions)


def pieces_of(draft: Draft, *, max_bytes: int) -> list[Draft]:
    """The draft in parts that a record can hold. Raises Rejected (too_large)."""
    return _fitting(draft, max_bytes, max_bytes)


def _apart(draft: Draft, partitions: int) -> list[tuple[int, Draft]]:
    """The draft by partition, whole if all of its traces have the same one."""
    homes = {trace_id: partition_of(key_of(trace_id), partitions) for trace_id in draft.trace_ids}
    places = set(homes.values())
    if len(places) <= 1:
        return [(places.pop() if places else partition_of(draft.lane.encode(), partitions), draft)]
    elsewhere = partition_of(draft.lane.encode(), partitions)
    return list(_split(draft, lambda _, item: homes.get(item.trace_id, elsewhere)).items())


def _fitting(draft: Draft, wanted_bytes: int, max_bytes: int) -> list[Draft]:
    """Parts of at most `wanted_bytes`: by trace, then by span. A single span may have `max_bytes`."""
    if _size_bytes(draft) <= wanted_bytes:
        return [draft]
    if len(draft.trace_ids) > 1:
        first = sorted(draft.trace_ids)[: len(draft.trace_ids) // 2]
        parts = _split(draft, lambda _, item: item.trace_id in first)
    elif draft.span_count > 1:
        middle = draft.span_count // 2
        parts = _split(draft, lambda at, _: at < middle)
    elif len(draft.payload) <= max_bytes:
        return [draft]
    else:
        raise Rejected(Reason.TOO_LARGE, _too_large(draft, max_bytes))
    if len(parts) < 2:  # its counts are not what it holds
        return [draft]
    return [small for part in parts.values() for small in _fitting(part, wanted_bytes, max_bytes)]


def _size_bytes(draft: Draft) -> int:
    """With the ids of its traces, which a record has in its headers beside those of one."""
    return len(draft.payload) + ID_BYTES * max(0, len(draft.trace_ids) - 1)


def _too_large(draft: Draft, max_bytes: int) -> str:
    word = SHAPES[signal_of(draft.lane)].word
    return (
        f"a {word} of {len(draft.payload)} bytes is larger than a record of the log may be"
        f" ({max_bytes} bytes); shorten its attributes, or raise kafka.max_message_bytes"
    )


def _split(draft: Draft, part_of: Callable[[int, Any], Part]) -> dict[Part, Draft]:
    """The draft's items by the part that `part_of` (position, item) names, with their resource and scope."""
    shape = SHAPES[signal_of(draft.lane)]
    export = shape.request.FromString(bytes(draft.payload))
    parts: dict[Part, Any] = {}
    position = 0
    for of_resource in getattr(export, shape.resources):
        for holder in getattr(of_resource, shape.scopes):
            chosen: defaultdict[Part, list[Any]] = defaultdict(list)
            for item in getattr(holder, shape.items):
                chosen[part_of(position, item)].append(item)
                position += 1
            for part, items in chosen.items():
                _add(parts.setdefault(part, shape.request()), of_resource, holder, items, shape)
    return {part: _draft_of(draft, request, shape) for part, request in parts.items()}


def _add(request: Any, of_resource: Any, holder: Any, items: Sequence[Any], shape: SignalShape) -> None:
    resource = getattr(request, shape.resources).add(schema_url=of_resource.schema_url)
    resource.resource.CopyFrom(of_resource.resource)
    scope = getattr(resource, shape.scopes).add(schema_url=holder.schema_url, **{shape.items: items})
    scope.scope.CopyFrom(holder.scope)


def _draft_of(draft: Draft, request: Any, shape: SignalShape) -> Draft:
    items = [item for holder in shape.holders(request) for item in getattr(holder, shape.items)]
    return replace(
        draft,
        payload=request.SerializeToString(),
        span_count=len(items),
        trace_ids=frozenset(item.trace_id for item in items) & draft.trace_ids,
    )
