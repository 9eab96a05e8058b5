"""Which trace ids of a window belong to another experiment: by the journal's word, then by MLflow's.

A claim in the journal holds once a span was delivered, or against the client that made it. Where clients are
told apart, MLflow is asked too, right before the write: an id that another client has only named is free.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from collector.delivery.mlflow.owners import foreign_traces
from collector.journal import Consumer, TraceMemory
from collector.mlflow.client import Mlflow
from collector.mlflow.experiments import CannotAsk
from collector.model.batch import Entry, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Entries of a lane on their way; `experiment_id` is what MLflow calls the lane's experiment."""

    entries: Sequence[Entry]
    lane: str
    route: Route
    experiment_id: str

    @property
    def owner(self) -> str:
        """Whose its trace ids are: the experiment, in its workspace."""
        return f"{self.route.workspace or ''}/{self.experiment_id}"

    @property
    def trace_ids(self) -> frozenset[bytes]:
        """Of all entries."""
        return frozenset().union(*(entry.trace_ids for entry in self.entries))


async def claim(
    window: Window, consumer: Consumer, traces: TraceMemory, *, ask: Mlflow | None
) -> frozenset[bytes] | CannotAsk:
    """Claim the window's trace ids; those that are another experiment's. It is marked as being worked on.

    `ask` None: clients are not told apart, so that the first claim holds.
    """
    clients = {} if ask is None else _clients(window)
    _, owners = await asyncio.gather(  # together they share a commit
        consumer.mark(window.lane, through=window.entries[-1].position),
        traces.claim(dict.fromkeys(window.trace_ids, window.owner), clients=clients),
    )
    foreign = frozenset(trace_id for trace_id, found in owners.items() if found != window.owner)
    if ask is None:
        return foreign
    theirs = await foreign_traces(
        ask, owners, experiment_id=window.experiment_id, workspace=window.route.workspace
    )
    return theirs if isinstance(theirs, CannotAsk) else foreign | theirs


def _clients(window: Window) -> dict[bytes, str]:
    return {trace_id: entry.client for entry in window.entries for trace_id in entry.trace_ids}
