"""What the gate is asked and what it answers."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.catalog import Operation
from proxy.locations import ObjectKind
from proxy.lookup import LocatedExperiment
from proxy.policy import Client

ReadBody = Callable[[], Awaitable[bytes]]
Answer = Callable[[bytes], bytes]


class Directory(Protocol):
    """What MLflow is asked; `Lookup` is one."""

    async def experiment(self, id: str) -> LocatedExperiment | None:
        """The experiment of an id."""

    async def named(self, name: str) -> LocatedExperiment | None:
        """The experiment of a name."""

    async def everything(self, *, fresh: bool = False) -> Sequence[LocatedExperiment]:
        """All experiments."""

    async def owners(self, kind: ObjectKind, ids: Sequence[str]) -> dict[str, frozenset[str]]:
        """The experiments of objects; those that aren't there are missing."""

    async def source_of(self, name: str, version: str) -> str | None:
        """The address of a model version's files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request, read once: what it does, who asks, and where its ids are."""

    client: Client
    operation: Operation
    method: str
    path: str
    query: bytes = b""
    content_type: str | None = None
    content_encoding: str | None = None
    workspace: str | None = None
    read_body: ReadBody | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A request that may pass, as it is to be sent. None: as it came.

    `experiments`: the ids that were looked at; `answer` changes what MLflow says; `observed`: the denial that
    `policy.mode = "observe"` didn't enforce.
    """

    rule: str
    experiments: tuple[str, ...] = ()
    query: bytes | None = None
    body: bytes | None = None
    answer: Answer | None = None
    observed: str = ""
