"""The values that travel from the receivers to the journal and on to its consumers."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from collector.model.errors import Reason

# a crash that an entry causes costs its neighbours in it a way through the dead letters
MAX_ENTRY_BYTES = 1024 * 1024
# the reason of a dead letter whose trace id another experiment had first
FOREIGN_TRACE = "foreign_trace"
# and of one whose trace is in the archive and no more in MLflow
ARCHIVED_TRACE = "archived_trace"
# experiment id and name, run, workspace: what a lane's text begins with; then its signal, if not traces
ROUTE_PARTS = 4


class Signal(StrEnum):
    """What an entry of the log holds: spans or log records. Each lane has entries of one signal."""

    TRACES = "traces"
    LOGS = "logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where spans go in MLflow: one experiment (by id or by name), maybe a run and a workspace.

    Exactly one of `experiment_id` and `experiment_name` is set.
    """

    experiment_id: str | None = None
    experiment_name: str | None = None
    run_id: str | None = None
    workspace: str | None = None

    def __post_init__(self) -> None:
        if (self.experiment_id is None) == (self.experiment_name is None):
            raise ValueError("a route has either an experiment id or an experiment name")

    @property
    def lane(self) -> str:
        """The canonical text of the route; the journal keeps one cursor for each lane."""
        return _lane(self.experiment_id, self.experiment_name, self.run_id, self.workspace)

    def lane_of(self, signal: Signal, *, waiting: bool = False) -> str:
        """The lane of this route's entries of one signal; `waiting`: of those that wait for something else.

        Spans have the lane that they always had: `lane`.
        """
        if signal is Signal.TRACES:
            return self.lane
        parts = (self.experiment_id, self.experiment_name, self.run_id, self.workspace, signal.value)
        return _lane(*parts, "waiting") if waiting else _lane(*parts)

    @property
    def verbatim_lane(self) -> str:
        """The lane of spans that MLflow had before: they go back as they are, and nowhere else."""
        parts = (self.experiment_id, self.experiment_name, self.run_id, self.workspace)
        return _lane(*parts, Signal.TRACES.value)

    @staticmethod
    def from_lane(lane: str) -> "Route":
        """The route that `lane` was made from."""
        experiment_id, experiment_name, run_id, workspace, *_ = json.loads(lane)
        return Route(
            experiment_id=experiment_id,
            experiment_name=experiment_name,
            run_id=run_id,
            workspace=workspace,
        )

    def to_json(self) -> dict[str, str]:
        """The parts that are set, for logs and answers."""
        names = ("experiment_id", "experiment_name", "run_id", "workspace")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@lru_cache(maxsize=1024)
def _lane(*parts: str | None) -> str:
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


@lru_cache(maxsize=1024)
def signal_of(lane: str) -> Signal:
    """What the entries of a lane hold; spans, if its text can't be read."""
    with suppress(ValueError):
        return Signal([*json.loads(lane), Signal.TRACES][ROUTE_PARTS])
    return Signal.TRACES


@lru_cache(maxsize=1024)
def is_waiting(lane: str) -> bool:
    """Whether a lane's entries wait for something else to arrive."""
    return len(json.loads(lane)) > ROUTE_PARTS + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a receiver hands to the journal: spans or log records of one route, as OTLP protobuf bytes.

    `payload` is one serialized ExportTraceServiceRequest, in a lane of logs an ExportLogsServiceRequest.
    `span_count` counts its spans or log records; `trace_ids` are the distinct 16-byte ids in it.
    """

    lane: str
    payload: bytes | memoryview
    span_count: int
    trace_ids: frozenset[bytes]
    client: str = ""


def merge(drafts: Sequence[Draft], *, max_bytes: int = MAX_ENTRY_BYTES, id_bytes: int = 0) -> list[Draft]:
    """Drafts of one lane and client as one, up to `max_bytes` each; their order is kept.

    `id_bytes` is what a trace id takes beside the payload.

    Serialized messages with a repeated field concatenate, so merging is joining bytes. One large entry
    costs the journal and its consumers far less than many small ones.
    """
    groups: dict[tuple[str, str], list[list[Draft]]] = {}
    sizes: dict[tuple[str, str], int] = {}
    for draft in drafts:
        key = (draft.lane, draft.client)
        own = len(draft.payload) + id_bytes * len(draft.trace_ids)
        size = sizes.get(key, 0) + own
        if key in groups and size <= max_bytes:
            groups[key][-1].append(draft)
        else:
            groups.setdefault(key, []).append([draft])
            size = own
        sizes[key] = size
    return [_join(group) for parts in groups.values() for group in parts]


def _join(drafts: Sequence[Draft]) -> Draft:
    if len(drafts) == 1:
        return drafts[0]
    return Draft(
        lane=drafts[0].lane,
        payload=b"".join([draft.payload for draft in drafts]),
        span_count=sum(draft.span_count for draft in drafts),
        trace_ids=frozenset().union(*[draft.trace_ids for draft in drafts]),
        client=drafts[0].client,
    )


@lru_cache(maxsize=1024)
def is_verbatim(lane: str) -> bool:
    """Whether a lane's spans were in MLflow before."""
    return bool(json.loads(lane)[ROUTE_PARTS:] == [Signal.TRACES.value])


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a lane of the journal. Only the form of the log that made it can compare it.

    `token` is what a consumer that keeps a position outside of the journal writes down and hands back.
    """

    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Drafts that the journal holds as one, with their position in the log.

    `attempts` counts the starts of the service in which the consumer that reads was cut short while it
    processed this entry.
    """

    position: Position
    received_unix_ns: int
    lane: str
    payload: bytes
    span_count: int
    trace_ids: frozenset[bytes]
    client: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """An entry that a commit appends, for one consumer alone: work that comes from what was processed.

    `received_unix_ns` is the time at which what it comes from was received.
    """

    consumer: str
    draft: Draft
    received_unix_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """Spans that a target refused for good, on their way into the dead letters."""

    lane: str
    payload: bytes
    span_count: int
    trace_ids: frozenset[bytes]
    reason: str
    message: str
    received_unix_ns: int
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A parked part as the journal shows it; `payload` only where it was asked for.

    `consumer` is the one whose target refused it: a retry goes to that consumer only.
    """

    id: int
    consumer: str
    parked_unix_ns: int
    received_unix_ns: int
    lane: str
    reason: str
    message: str
    span_count: int
    size_bytes: int
    trace_ids: frozenset[bytes]
    client: str = ""
    payload: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One span or log record that no backend could store, and why."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one export: accepted spans are on disk, rejected ones have their reasons.

    In an export of logs they are log records.
    """

    accepted_spans: int
    rejections: Sequence[Rejection] = field(default=())
    signal: Signal = Signal.TRACES
