"""Who may ask our own paths, and what of the answers they may see.

Each path is an operation like MLflow's own (own_routes.py), and a trace is in its experiment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.types import Scope

from collector.answers.rights import NOTHING, RUN_RESOURCES, ReadRights
from collector.answers.traces import parse_trace_id
from collector.api.directory import OwnDirectory
from collector.api.own_routes import FROM_INDEX, METHODS, OWN_OPERATIONS, PUBLIC_PATHS
from proxy import Access
from proxy.ask import Ask
from proxy.catalog import UNKNOWN, Action, Operation
from proxy.errors import Refusal, not_found
from proxy.gate import Gate
from proxy.headers import peer_of
from proxy.locations import Reach
from proxy.policy import ANONYMOUS, Client, Experiment

# an operation in some experiment or other: the policy says for each whether it is allowed
BY_EXPERIMENT = Reach()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. `is_identified` False: a probe whose credentials are missing or don't hold."""

    client: Client
    is_identified: bool = True


class OwnAdmission:
    """The policy on our own paths."""

    def __init__(self, access: Access, directory: OwnDirectory) -> None:
        self._clients = access.clients
        self._policy = access.gate.policy
        self._directory = directory
        self._gate = Gate(access.gate.policy, directory)

    async def identify(self, scope: Scope) -> Caller:
        """Who asks. Raises Refusal (401, 5xx): that can't be told, and the path isn't public."""
        try:
            client = await self._clients.identify(scope["headers"], peer_of(scope.get("client")))
        except Refusal:
            if scope["path"] not in PUBLIC_PATHS:
                raise
            return Caller(client=Client(name=ANONYMOUS, roles=()), is_identified=False)
        return Caller(client=client)

    async def admit(self, caller: Caller, operation: Operation, scope: Scope) -> ReadRights:
        """What the caller may see of the answer. Raises Refusal (403, 404; 5xx if MLflow must be asked)."""
        path = scope["path"]
        if operation.route == UNKNOWN.route:
            if all(OWN_OPERATIONS.classify(method, path) is UNKNOWN for method in METHODS):
                raise not_found(f"{path[:200]} is not a path of this service")
            return NOTHING  # the wrong method: the router says which is right
        if path in PUBLIC_PATHS:
            return ReadRights(identified=caller.is_identified)
        passage = await self._gate.judge(
            Ask(
                client=caller.client,
                operation=operation,
                method=scope["method"],
                path=path,
                query=scope["query_string"] if operation.resource == "runs" else b"",
            )
        )
        return await self._rights(caller.client, operation, path, passage.experiments)

    async def _rights(
        self, client: Client, operation: Operation, path: str, experiments: Sequence[str]
    ) -> ReadRights:
        """`experiments` are those that the request touches, as far as the gate had to look at them."""
        rights = ReadRights(pending=await self._may_see_pending(operation, path, frozenset(experiments)))
        if operation.row in FROM_INDEX:
            return replace(rights, experiments=await self._visible(client, operation))
        if operation.resource == "runs":
            return replace(rights, run_resources=self._run_resources(client, experiments))
        if operation.resource == "traces" and self._gate.settled(client, operation) is None:
            return replace(rights, experiments=frozenset(experiments))
        return rights

    async def _visible(self, client: Client, operation: Operation) -> frozenset[str] | None:
        """The experiments whose traces the client may see; None: all. Raises Refusal (5xx)."""
        rights = self._policy.rights(client)
        reading = replace(operation, reach=BY_EXPERIMENT)
        everywhere = rights.everywhere(reading)
        if (everywhere is not None and everywhere.allow) or self._policy.mode == "observe":
            return None
        if rights.by_id_only(reading):  # no need to know names, so MLflow may be away
            index = self._directory.index
            ids = () if index is None else await index.experiments()
            return frozenset(id for id in ids if rights.within(reading, Experiment(id=id)).allow)
        places = await self._directory.everything()
        return frozenset(
            place.experiment.id for place in places if rights.within(reading, place.experiment).allow
        )

    def _run_resources(self, client: Client, experiments: Sequence[str]) -> frozenset[str]:
        """What the client may read, beside the run itself, of a run in these experiments."""
        return frozenset(
            resource for resource in RUN_RESOURCES if self._may_read(client, resource, experiments)
        )

    def _may_read(self, client: Client, resource: str, experiments: Sequence[str]) -> bool:
        rights = self._policy.rights(client)
        reading = Operation(resource=resource, action=Action.READ, route="", reach=BY_EXPERIMENT)
        everywhere = rights.everywhere(reading)
        if everywhere is not None:
            return everywhere.allow
        return bool(experiments) and all(rights.within(reading, self._known(id)).allow for id in experiments)

    def _known(self, id: str) -> Experiment:
        """An experiment that the gate has just looked at."""
        place = self._directory.lookup.remembered(id)
        return Experiment(id=id) if place is None else place.experiment

    async def _may_see_pending(self, operation: Operation, path: str, allowed: frozenset[str]) -> bool:
        """A trace in MLflow is its experiment's; what waits in the journal under its id may be another's."""
        trace_id = parse_trace_id(operation.parameters(path).get("trace_id", ""))
        if not allowed or trace_id is None:
            return True
        return await self._directory.pending_owners(trace_id) <= allowed
