"""Who may export to the receiver, and into which experiments: `otlp:write`.

A client that is limited to experiments is asked route by route (Permit). Which traces and runs an export
touches is looked up on the way out (delivery/mlflow/owners.py), where MLflow must be there anyway: an export
is taken while MLflow is away.
"""

from starlette.types import Scope

from collector.api.audit import audit_line
from collector.model.batch import Route
from collector.model.errors import Reason, Rejected, Unavailable
from collector.receivers.ingest import NOBODY, Permit, Sender
from proxy import Access
from proxy.catalog import Action, Operation
from proxy.errors import Refusal
from proxy.headers import peer_of
from proxy.locations import read_reach
from proxy.lookup import LocatedExperiment
from proxy.policy import ANONYMOUS, NO_RULE, Client, Decision, PolicyExperiment, Rights

EXPORT = Operation(
    resource="otlp",
    action=Action.WRITE,
    route="/v1/traces",
    row="POST /v1/traces",
    reach=read_reach("body.experiment_id"),
)


class ReceiverAdmission:
    """The policy on exports."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._gate = access.gate
        anonymous = Client(name=ANONYMOUS, roles=access.gate.policy.roles_of(ANONYMOUS))
        settled = access.gate.settled(anonymous, EXPORT)
        # where clients are not authenticated, nothing is decided anew for each export
        is_open = not access.clients.asked and settled is not None and settled.allow
        self.anybody = NOBODY if is_open else None

    async def admit(self, scope: Scope) -> Sender:
        """Who exports, and into which experiments. Raises Rejected, Unavailable."""
        if self.anybody:
            return self.anybody
        client = Client(name=ANONYMOUS, roles=())
        try:
            client = await self._access.clients.identify(scope["headers"], peer_of(scope.get("client")))
            settled = self._settled(client)
        except Refusal as refusal:
            self._write_down(scope, client, refusal)
            if self._observes and refusal.status == 403:
                return Sender(name=client.name)
            raise _as_receivers_say(refusal) from None
        permit = None if settled is not None or self._observes else self._permit(client)
        return Sender(name="" if client.source == "none" else client.name, permit=permit)

    @property
    def _observes(self) -> bool:
        return self._gate.policy.mode == "observe"

    def _settled(self, client: Client) -> Decision | None:
        """The permission to export everywhere; None: it depends on the experiment. Raises Refusal (403)."""
        settled = self._gate.settled(client, EXPORT)
        if settled is not None and not settled.allow:
            raise Refusal(
                status=403,
                error_code="PERMISSION_DENIED",
                message=f"client {client.name!r} may not write otlp ({settled.rule})",
                rule=settled.rule,
            )
        return settled

    def _permit(self, client: Client) -> Permit:
        rights = self._gate.policy.rights(client)

        async def permit(route: Route) -> str | None:
            decision = await self._on_route(rights, route)
            if decision.allow:
                return None
            where = route.experiment_id or route.experiment_name
            return (
                f"client {client.name!r} may not send traces to experiment {where!r}, or it doesn't exist "
                f"({decision.rule})"
            )

        return permit

    async def _on_route(self, rights: Rights, route: Route) -> Decision:
        if route.workspace is not None:
            return Decision(
                allow=False, rule="a client that is limited to experiments can't choose a workspace"
            )
        decision = _without_mlflow(rights, route)
        if decision is not None:
            return decision
        place = await self._look_up(route)
        if place is not None:
            return rights.within(EXPORT, place.experiment)
        if route.experiment_name is not None:  # made on the way out, if that is allowed
            return rights.named(EXPORT, route.experiment_name)
        return Decision(allow=False, rule=NO_RULE)

    async def _look_up(self, route: Route) -> LocatedExperiment | None:
        try:
            if route.experiment_id is not None:
                return await self._access.lookup.experiment(route.experiment_id)
            return await self._access.lookup.named(route.experiment_name or "")
        except Refusal as refusal:
            raise _as_receivers_say(refusal) from None

    def _write_down(self, scope: Scope, client: Client, refusal: Refusal) -> None:
        line = audit_line(
            scope, client, EXPORT, status=refusal.status, rule=refusal.rule, message=refusal.message
        )
        self._access.log.write(line)


def _without_mlflow(rights: Rights, route: Route) -> Decision | None:
    """The decision where the policy names the experiment as the route does; None: MLflow must be asked."""
    if route.experiment_id is not None and rights.by_id_only(EXPORT):
        return rights.within(EXPORT, PolicyExperiment(id=route.experiment_id))
    if route.experiment_name is not None and rights.by_name_only(EXPORT):
        named = rights.named(EXPORT, route.experiment_name)
        return named if named.allow else None
    return None


def _as_receivers_say(refusal: Refusal) -> Rejected | Unavailable:
    if refusal.status == 401:
        return Rejected(Reason.UNAUTHENTICATED, refusal.message)
    if refusal.status < 500:
        return Rejected(Reason.FORBIDDEN, refusal.message)
    return Unavailable(
        Reason.UNDECIDED,
        f"it can't be decided now whether this client may: {refusal.message}",
        retry_after_seconds=5,
    )
