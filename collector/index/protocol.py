"""The index as everybody else knows it: its verbs, the questions that it is asked, and its answers. Pure.

    take          a batch of the journal's lanes    ->  IndexedBatch
    ask           IndexQuery                        ->  JsonAnswer, FileAnswer, or None (no such session)
    trace         TraceQuery                        ->  the trace's summary as JSON, or None
    owners        a trace id                        ->  the experiments that it is in
    experiments                                     ->  the experiments that there are traces of
    state                                           ->  IndexState
    put           traces in MLflow's JSON           ->  StoredTraces      (backfill)
    label         traces without spans, in MLflow's JSON: session, user, tags, scores
    scores        a trace id                        ->  what was said of it
    labels        trace ids              ->  what it says of their sessions, users and tags
    name          an experiment's id and name
    forget        have the journal's entries come again
    changes       ChangesQuery                      ->  Changes           (TellsChanges; not every form can)
    mirror_...    rows with MLflow's own columns, and questions to them   (HoldsMirror; not every form can)

Forms: `index/duckdb/`, where `IndexClient` asks a process beside the service, which asks `DuckdbIndex`,
and `index/clickhouse/`. The contract suite (tests/collector/index/test_index_contract.py) runs over each.

Another engine writes a store (these verbs) and, where it speaks SQL, a dialect (index/sql/dialect.py). What
can be asked, and how it is checked, comes from index/queries/ and stays.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from collector.mirror.question import MetricQuestion
from collector.mirror.search import SearchQuestion
from collector.model.errors import SidespanError
from collector.model.experiment import ExperimentReference
from collector.spans.labels import TraceLabels

FILE_FORMATS = ("csv", "parquet")


class IndexAway(SidespanError):
    """The index doesn't answer at this moment; the message says why."""


class IndexUnreachable(IndexAway):
    """The index is a server of its own that can't be reached now: no entry is the reason."""


class IndexFailure(SidespanError):
    """The index failed at what it was asked; its log has the traceback."""


class QueryTimedOut(SidespanError):
    """The query takes too long; a narrower one may not. `document` names the parameter to change."""

    def __init__(self, parameter: str, value: object, message: str) -> None:
        super().__init__(message)
        self.parameter, self.value = parameter, value
        self.document = {"parameter": parameter, "value": value, "message": message}


class BatchRefused(SidespanError):
    """Rows of the batch can't be stored, whenever it is tried; a smaller batch may leave them out."""


class UnreadableTraces(SidespanError):
    """What was put is not traces in MLflow's JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A lane that has something, and the experiment that its route leads to, as far as it is known."""

    lane: str
    experiment: ExperimentReference


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedBatch:
    """What one batch has brought in. `cursors` are by lane; `more`: there was more than one batch holds.

    `unreadable` are entries, `failed` bugs that cost a span its facts or a trace its rows; `unnamed` are
    experiments of which only one of id and name is known.
    """

    spans: int
    cursors: Mapping[str, int]
    unreadable: int
    failed: int
    more: bool
    unnamed: Sequence[ExperimentReference] = ()


class QueryKind(StrEnum):
    """What can be asked about many traces."""

    TRACES = "traces"
    STATS = "stats"
    COMPARE = "compare"
    OVERVIEW = "overview"
    ERRORS = "errors"
    FACETS = "facets"
    SESSIONS = "sessions"
    SESSION = "session"
    """One session with its turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexQuery:
    """A question about many traces: its parameters as a request has them, and what the client may see.

    `experiment_ids` are the experiments that it is limited to (None: all); `session` is the one that
    QueryKind.SESSION asks about.
    """

    kind: QueryKind
    parameters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    experiment_ids: frozenset[str] | None = None
    session: str = ""

    @property
    def is_for_a_file(self) -> bool:
        """Whether the rows are asked for as CSV or Parquet."""
        return any(value in FILE_FORMATS for value in self.parameters.get("format", ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonAnswer:
    """An answer as an encoded JSON object; its shape is in index/queries/models.py."""

    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAnswer:
    """Rows as a file that may be larger than memory. Read `chunks` to the end, or close it."""

    media_type: str
    name: str
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceQuery:
    """A question about one trace. `whole`: only if the index is sure to have all of it.

    `incomplete` is what the summary says about parts that are missing, `omit_empty` is that of
    TraceSummary.to_json.
    """

    trace_id: str
    max_spans: int
    omit_empty: bool = False
    experiment_ids: frozenset[str] | None = None
    whole: bool = False
    incomplete: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What MLflow had when it was asked: scores that came before `before_unix_ns`, but for traces in `but`.

    So one of those that MLflow doesn't name was deleted there, and others may be on their way to it.
    """

    before_unix_ns: int = 0
    but: frozenset[str] = frozenset()


NOTHING_DELIVERED = Delivered()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentCounts:
    """What the index holds of one experiment; scores are those of its traces."""

    id: str | None
    name: str | None
    traces: int
    spans: int
    scores: int
    first_unix_ns: int
    last_unix_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexState:
    """What the index holds."""

    traces: int
    spans: int
    scores: int
    size_bytes: int
    experiments: Sequence[ExperimentCounts]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTraces:
    """How many traces were put, and how many spans the index has of them now."""

    traces: int
    spans: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Which traces a reader of changes asks for: filters as a request has them, and what it may see.

    `experiment_ids` are the experiments that it is limited to (None: all).
    """

    parameters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    experiment_ids: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesQuery:
    """What changed behind the position `after`, for each of `looks` at most the newest `most` traces.

    `until` is the last position that counts (None: the newest). With `after` None only positions are told.
    """

    after: int | None
    until: int | None = None
    looks: Sequence[Look] = ()
    most: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedTrace:
    """A trace as it is now, once for all looks: `to` are their numbers.

    `position` is that of its last change; `body` a ChangedTraceEvent (queries/models.py) as JSON.
    """

    position: int
    to: Sequence[int]
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What changed, the oldest first. `left_out` says for each look how many traces are beyond the most.

    Behind `oldest` every change is known, up to `newest`. Positions grow, also across restarts.
    """

    oldest: int
    newest: int
    traces: Sequence[ChangedTrace] = ()
    left_out: Sequence[int] = ()


@runtime_checkable
class TellsChanges(Protocol):
    """An index that can be followed: it says which traces the journal has changed, batch by batch."""

    async def changes(self, query: ChangesQuery) -> Changes:
        """What changed. Raises BadParameter, QueryTimedOut, IndexAway, IndexFailure."""


@runtime_checkable
class HoldsMirror(Protocol):
    """An index with a mirror beside it (collector/mirror/), whose rows end with its process.

    Each verb raises IndexAway, IndexFailure.
    """

    async def mirror_hold(self, document: Mapping[str, Any]) -> None:
        """Take in rows of whole traces, in place of those that go."""

    async def mirror_pull(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take in whole traces from MLflow's database: {"held": their experiments}, or {"away": why not}."""

    async def mirror_clear(self, experiment: int) -> None:
        """Forget an experiment."""

    async def mirror_measure(self, question: MetricQuestion) -> Mapping[str, Any]:
        """The rows of an answer, or why they can't answer."""

    async def mirror_find(self, question: SearchQuestion) -> Mapping[str, Any]:
        """The rows of the traces on a page and of one more, or why they can't answer."""


class Index(Protocol):
    """Spans as rows, to be asked about. Each verb but the two that say so raises IndexAway, IndexFailure."""

    @property
    def trouble(self) -> str | None:
        """Why it can't be asked, or None."""

    @property
    def starting(self) -> bool:
        """Whether this is its first start: no trouble yet."""

    async def ready(self) -> None:
        """Wait until it can be asked."""

    async def take(self, lanes: Sequence[Lane], *, limit_spans: int) -> IndexedBatch:
        """Bring in a batch of what these lanes of the journal hold. Raises BatchRefused.

        A batch is in the index with its cursors, or not at all; one that comes again changes nothing.
        """

    async def ask(self, query: IndexQuery) -> JsonAnswer | FileAnswer | None:
        """The answer; None: there is no such session. Raises BadParameter, QueryTimedOut."""

    async def trace(self, query: TraceQuery) -> bytes | None:
        """The summary of a trace as JSON; None: it isn't there, or not as asked. Raises QueryTimedOut."""

    async def owners(self, trace_id: str) -> frozenset[str]:
        """The ids of the experiments in which the trace is; none if the index can't be asked."""

    async def experiments(self) -> Sequence[str]:
        """The ids of the experiments of which there are traces; none if the index can't be asked."""

    async def state(self) -> IndexState:
        """What it holds."""

    async def put(
        self, traces: bytes, experiment: ExperimentReference, *, delivered: Delivered = NOTHING_DELIVERED
    ) -> StoredTraces:
        """Store traces of an experiment, in MLflow's JSON. Raises UnreadableTraces.

        A span that is there already stays as it is: what the journal brings says more. Of scores MLflow has
        the last word.
        """

    async def label(self, infos: bytes, *, delivered: Delivered = NOTHING_DELIVERED) -> int:
        """Note session, user, tags and scores of traces, in MLflow's JSON of batchGetInfos; how many traces.

        The spans may come later. Raises UnreadableTraces.
        """

    async def scores(self, trace_id: str, *, experiment_ids: frozenset[str] | None) -> bytes:
        """The scores of a trace in these experiments (None: all): TraceScore (queries/models.py) as JSON."""

    async def labels(self, experiment_id: str, trace_ids: Sequence[str]) -> Mapping[str, TraceLabels]:
        """Session, user and tags of an experiment's traces (32 hex digits); what it lacks is missing."""

    async def name(self, experiment: ExperimentReference) -> None:
        """Both of an experiment's id and name are known now."""

    async def forget(self) -> None:
        """Forget how far each lane was read: everything that the journal still holds comes again."""


def experiment_ids(state: IndexState) -> Sequence[str]:
    """The ids of the experiments in it."""
    return [each.id for each in state.experiments if each.id is not None]
