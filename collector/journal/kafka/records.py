"""What the log's topics hold, as records: keys, values and headers. Pure.

    topic            key                value                         headers
    NAME-spans       trace id (hex)     ExportTraceServiceRequest     ENTRY below
    NAME-logs        trace id (hex)     ExportLogsServiceRequest      ENTRY
    NAME-follow-ups  trace id (hex)     either                        ENTRY, and whose it is
    NAME-state       its sort, then what JSON, or a note's bytes      none
    NAME-dead-letters  a random name    either                        LETTER

A value of the first two topics is what the OpenTelemetry Collector's receiver reads as `otlp_proto`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from collector.model.batch import DeadLetter, Draft, Parked, Position, signal_of

Headers = Sequence[tuple[str, bytes]]

OWN_HEADERS = "sidespan-"
_LANE, _CLIENT, _SPANS = "sidespan-lane", "sidespan-client", "sidespan-spans"
_RECEIVED = "sidespan-received"
_TRACES, _SIGNAL, _CONSUMER = "sidespan-traces", "sidespan-signal", "sidespan-consumer"
_LETTER, _REOPEN = "sidespan-letter", "sidespan-reopen"

_OFFSET_BITS, _KIND_BITS = 44, 2


class Kind(IntEnum):
    """What a topic of the log holds: everybody's spans or log records, or entries of one consumer alone."""

    SPANS = 0
    LOGS = 1
    FOLLOW_UPS = 2


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the log's topics and groups."""

    name: str

    def data(self, kind: Kind) -> str:
        """The topic of entries."""
        return f"{self.name}-{kind.name.lower().replace('_', '-')}"

    @property
    def state(self) -> str:
        """The compacted topic of cursors, notes and claims."""
        return f"{self.name}-state"

    @property
    def dead_letters(self) -> str:
        """The compacted topic of dead letters."""
        return f"{self.name}-dead-letters"

    def group(self, group: str) -> str:
        """A consumer group as the brokers know it."""
        return f"{self.name}-{group}"


class Spot(NamedTuple):
    """Where an entry is in the log."""

    partition: int
    kind: Kind
    offset: int

    @property
    def position(self) -> Position:
        """The same as one number, which stays what it is for ever."""
        return Position((self.partition << _KIND_BITS | self.kind) << _OFFSET_BITS | self.offset + 1)

    @staticmethod
    def of(position: Position) -> "Spot":
        """The spot that a position names."""
        stream, number = position.token >> _OFFSET_BITS, position.token & (1 << _OFFSET_BITS) - 1
        return Spot(stream >> _KIND_BITS, Kind(min(stream & 3, max(Kind))), number - 1)


class Record(NamedTuple):
    """A record to write."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(slots=True, eq=False, kw_only=True)
class HeldRecord:
    """An entry of a partition as its owner holds it. `order`: in which it was seen.

    `payload` is None where memory is short: it is read again when its turn comes. `consumer` None:
    everybody's. `reopens`: traces whose owner is to be asked anew.
    """

    spot: Spot
    order: int
    received_unix_ns: int
    written_unix_ms: int
    lane: str
    span_count: int
    size_bytes: int
    trace_ids: frozenset[bytes]
    client: str
    consumer: str | None
    payload: bytes | None
    reopens: frozenset[bytes] = frozenset()
    attempts: dict[str, int] = field(default_factory=dict)

    def is_for(self, consumer: str) -> bool:
        """Whether the consumer sees it."""
        return self.consumer is None or self.consumer == consumer


def entry_headers(
    draft: Draft, *, received_unix_ns: int, consumer: str | None = None, reopen: bool = False
) -> Headers:
    """What a consumer must know of an entry without reading its payload."""
    headers = [
        (_LANE, draft.lane.encode()),
        (_RECEIVED, str(received_unix_ns).encode()),
        (_SPANS, str(draft.span_count).encode()),
        (_TRACES, b"".join(sorted(draft.trace_ids))),
        (_SIGNAL, signal_of(draft.lane).value.encode()),
    ]
    headers += [(_CLIENT, draft.client.encode())] if draft.client else []
    headers += [(_CONSUMER, consumer.encode())] if consumer is not None else []
    return headers + ([(_REOPEN, b"1")] if reopen else [])


def held_of(
    spot: Spot, value: bytes | None, headers: Headers | None, *, written_unix_ms: int
) -> HeldRecord | None:
    """An entry from its record; None: it isn't one of ours."""
    told = dict(headers or ())
    if _LANE not in told or value is None:
        return None
    consumer = told.get(_CONSUMER)
    trace_ids = unpack_ids(told.get(_TRACES, b""))
    return HeldRecord(
        spot=spot,
        order=0,
        received_unix_ns=int(told[_RECEIVED]),
        written_unix_ms=written_unix_ms,
        lane=told[_LANE].decode(),
        span_count=int(told[_SPANS]),
        size_bytes=len(value),
        trace_ids=trace_ids,
        client=told.get(_CLIENT, b"").decode(),
        consumer=None if consumer is None else consumer.decode(),
        payload=value,
        reopens=trace_ids if _REOPEN in told else frozenset(),
    )


def unpack_ids(packed: bytes) -> frozenset[bytes]:
    """Trace ids that stand side by side."""
    return frozenset(packed[i : i + 16] for i in range(0, len(packed), 16))


def letter_headers(part: Parked, *, consumer: str, parked_unix_ns: int) -> Headers:
    """A dead letter without its payload."""
    told = {
        "consumer": consumer,
        "parked": parked_unix_ns,
        "received": part.received_unix_ns,
        "lane": part.lane,
        "reason": part.reason,
        "message": part.message,
        "spans": part.span_count,
        "client": part.client,
    }
    return [(_LETTER, json.dumps(told).encode()), (_TRACES, b"".join(sorted(part.trace_ids)))]


def letter_of(offset: int, value: bytes, headers: Headers | None) -> DeadLetter | None:
    """A dead letter from its record, without payload; None: it isn't one."""
    told = dict(headers or ())
    if _LETTER not in told:
        return None
    letter = json.loads(told[_LETTER])
    return DeadLetter(
        id=offset + 1,
        consumer=letter["consumer"],
        parked_unix_ns=letter["parked"],
        received_unix_ns=letter["received"],
        lane=letter["lane"],
        reason=letter["reason"],
        message=letter["message"],
        span_count=letter["spans"],
        size_bytes=len(value),
        trace_ids=unpack_ids(told.get(_TRACES, b"")),
        client=letter["client"],
    )


@dataclass(slots=True)
class LaneProgress:
    """How far a consumer is in a lane of one partition: for each kind the next offset that it hasn't passed.

    `marked` likewise, of what is being processed; `attempts` are by position.
    """

    following: list[int] = field(default_factory=lambda: [0, 0, 0])
    marked: list[int] | None = None
    attempts: dict[int, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        return json.dumps([self.following, self.marked, list(self.attempts.items())]).encode()

    @staticmethod
    def from_bytes(value: bytes) -> "LaneProgress":
        following, marked, attempts = json.loads(value)
        return LaneProgress(following, marked, dict(attempts))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTraceClaim:
    """Whose a trace id is; `delivered` once the target has spans of it."""

    target: str
    client: str = ""
    delivered: bool = False

    def to_bytes(self) -> bytes:
        return json.dumps([self.target, self.client, self.delivered]).encode()

    @staticmethod
    def from_bytes(value: bytes) -> "HeldTraceClaim":
        target, client, delivered = json.loads(value)
        return HeldTraceClaim(target=target, client=client, delivered=delivered)


def lane_key(consumer: str, lane: str) -> bytes:
    """The key of a consumer's progress in a lane."""
    return b"L" + json.dumps([consumer, lane]).encode()


def note_key(consumer: str, trace_id: bytes) -> bytes:
    """The key of a consumer's note of a trace."""
    return b"N" + trace_id + consumer.encode()


def claim_key(trace_id: bytes) -> bytes:
    """The key of a claim."""
    return b"C" + trace_id


def read_state_key(key: bytes) -> tuple[bytes, str, str | bytes]:
    """(letter, consumer, lane or trace id); a claim has no consumer."""
    what, rest = key[:1], key[1:]
    if what == b"L":
        consumer, lane = json.loads(rest)
        return what, consumer, lane
    return what, rest[16:].decode(), rest[:16]


def draft_of(letter: DeadLetter) -> Draft:
    """A dead letter as an entry again."""
    return Draft(
        lane=letter.lane,
        payload=letter.payload,
        span_count=letter.span_count,
        trace_ids=letter.trace_ids,
        client=letter.client,
    )


def told(headers: Headers | None) -> Mapping[str, str]:
    """Headers of a foreign record as text, names in lower case."""
    return {name.lower(): (value or b"").decode(errors="replace") for name, value in headers or ()}
