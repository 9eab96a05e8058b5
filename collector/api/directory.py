"""Which experiments a trace belongs to, where MLflow doesn't know: the gate's directory for our own paths."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from collector.answers.traces import parse_trace_id
from collector.journal import CannotTell
from collector.mlflow.experiments import Experiments, Resolved
from collector.model.batch import Route
from proxy.locations import ObjectKind
from proxy.lookup import LocatedExperiment, Lookup

# of spans whose experiment nobody can tell: it is no client's
UNKNOWN = frozenset({""})
PendingRoutes = Callable[[bytes], Awaitable[Sequence[Route] | CannotTell]]
"""Where the journal's spans of a trace (its 16 bytes) are bound for."""


class IndexedOwners(Protocol):
    """What rights need to know of the index; an `Index` is one."""

    async def owners(self, trace_id: str) -> frozenset[str]:
        """The ids of the experiments in which it has the trace; none if it can't be asked."""

    async def experiments(self) -> Sequence[str]:
        """The ids of the experiments of which it has traces; none if it can't be asked."""


class OwnDirectory:
    """MLflow's directory, and of traces that MLflow doesn't have the journal's and the index's."""

    def __init__(
        self,
        lookup: Lookup,
        pending_routes: PendingRoutes,
        experiments: Experiments,
        index: IndexedOwners | None = None,
    ) -> None:
        self.lookup = lookup
        self.index = index
        self._pending_routes = pending_routes
        self._experiments = experiments

    async def experiment(self, id: str) -> LocatedExperiment | None:
        """As MLflow says."""
        return await self.lookup.experiment(id)

    async def named(self, name: str) -> LocatedExperiment | None:
        """As MLflow says."""
        return await self.lookup.named(name)

    async def everything(self, *, fresh: bool = False) -> Sequence[LocatedExperiment]:
        """As MLflow says."""
        return await self.lookup.everything(fresh=fresh)

    async def source_of(self, name: str, version: str) -> str | None:
        """As MLflow says."""
        return await self.lookup.source_of(name, version)

    async def owners(self, kind: ObjectKind, ids: Sequence[str]) -> dict[str, frozenset[str]]:
        """The experiments of objects, as MLflow says; of traces that it doesn't have, as we know."""
        if kind is not ObjectKind.TRACE:
            return await self.lookup.owners(kind, ids)
        by_id = {id: await self._owners_of_trace(id) for id in ids}
        return {id: owners for id, owners in by_id.items() if owners}

    async def _owners_of_trace(self, id: str) -> frozenset[str]:
        trace_id = parse_trace_id(id)
        if trace_id is None:
            return frozenset()
        mlflow_id = f"tr-{trace_id}"
        stored = await self.lookup.owners(ObjectKind.TRACE, [mlflow_id])
        owners = stored.get(mlflow_id) or await self.pending_owners(trace_id)
        # sampled away, gone from MLflow, or in a part of the log that this process can't see
        if owners <= UNKNOWN and self.index is not None:
            owners = await self.index.owners(trace_id) or owners
        return owners

    async def pending_owners(self, trace_id: str) -> frozenset[str]:
        """The experiments that the journal's spans of a trace are bound for, if it has some."""
        routes = await self._pending_routes(bytes.fromhex(trace_id))
        if isinstance(routes, CannotTell):  # it may be anybody's
            return UNKNOWN
        resolved = [await self._experiments.resolve(route) for route in routes]
        return frozenset(found.experiment_id if isinstance(found, Resolved) else "" for found in resolved)
