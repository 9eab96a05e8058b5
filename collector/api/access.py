"""The settings on clients and policy as the proxy package takes them, and our own doors behind them.

    /-/…            each path is an operation like MLflow's own (OWN); a trace is in its experiment
    /v1/traces      `otlp:write`; a client that is limited to experiments is asked route by route (Permit)

Which traces and runs a write touches is looked up on the way out (delivery/owners.py), where MLflow must be
there anyway: an export is taken while MLflow is away.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Protocol

from starlette.types import Scope

from collector.answers.rights import DELIVERED_ONLY, EXPERIMENTS
from collector.api.index import QUESTIONS
from collector.api.runs import EVERYTHING, READABLE
from collector.api.traces import normal_trace_id
from collector.mlflow.experiments import Experiments, Resolved
from collector.model.batch import Route
from collector.model.errors import Reason, Rejected, Unavailable
from collector.receivers.ingest import NOBODY, Permit, Sender
from collector.settings import Settings
from proxy import Access, AccessSettings
from proxy.ask import Ask
from proxy.catalog import Action, Operation, build_catalog
from proxy.clients import Provider, TrustedHeader
from proxy.errors import Refusal, not_found
from proxy.gate import Gate
from proxy.headers import peer_of
from proxy.locations import ObjectKind, read_reach
from proxy.logs import Line
from proxy.lookup import LocatedExperiment, Lookup
from proxy.policy import ANONYMOUS, Client, Decision, PolicyExperiment, Rights

RoutesOf = Callable[[bytes], Awaitable[Sequence[Route]]]


class Indexed(Protocol):
    """What rights need to know of the index; `IndexClient` is one."""

    async def owners(self, trace_id: str) -> frozenset[str]:
        """The ids of the experiments in which it has the trace; none if it can't be asked."""

    async def experiments(self) -> Sequence[str]:
        """The ids of the experiments of which it has traces; none if it can't be asked."""


def _operation(
    method: str, path: str, resource: str, action: Action, scope: str
) -> tuple[str, str, Operation]:
    row = f"{method} {path}"
    operation = Operation(resource=resource, action=action, route=path, row=row, reach=read_reach(scope))
    return method, path, operation


def _own_rows() -> Iterable[tuple[str, str, Operation]]:
    read, write, delete = Action.READ, Action.WRITE, Action.DELETE
    yield _operation("GET", "/-/", "sidespan", read, "-")
    yield _operation("GET", "/-/static/{name}", "sidespan", read, "-")
    yield _operation("GET", "/-/healthy", "sidespan", read, "-")
    yield _operation("GET", "/-/ready", "sidespan", read, "-")
    yield _operation("GET", "/-/metrics", "metrics", read, "server")
    # the index answers for the experiments that the client may see (Entrance._visible)
    for path in INDEXED:
        yield _operation("GET", path, "traces", read, "-")
    yield _operation("GET", "/-/index", "metrics", read, "server")
    yield _operation("GET", "/-/index/verify", "metrics", read, "server")
    yield _operation("POST", "/-/index/backfill", "journal", write, "server")
    yield _operation("POST", "/-/index/rebuild", "journal", write, "server")
    yield _operation("GET", "/-/traces/{trace_id}", "traces", read, "path.trace_id")
    yield _operation("GET", "/-/traces/{trace_id}/explanation", "traces", read, "path.trace_id")
    yield _operation("GET", "/-/runs", "runs", read, "query.experiment_id[] named:query.experiment_name")
    yield _operation("GET", "/-/runs/compare", "runs", read, "query.run_id[]")
    yield _operation("GET", "/-/runs/{run_id}", "runs", read, "path.run_id")
    yield _operation("GET", "/-/docs", "sidespan", read, "-")
    yield _operation("GET", "/-/openapi.json", "sidespan", read, "-")
    yield _operation("POST", "/health", "sidespan", read, "-")
    yield _operation("POST", "/mlflow/experiments", "experiments", read, "server")
    yield _operation("POST", "/mlflow/runs", "runs", read, "server")
    yield _operation("GET", "/-/dead-letters", "dead-letters", read, "server")
    yield _operation("GET", "/-/dead-letters/{id}", "dead-letters", read, "server")
    yield _operation("POST", "/-/dead-letters/retry", "dead-letters", write, "server")
    yield _operation("POST", "/-/dead-letters/drop", "dead-letters", delete, "server")
    yield _operation("POST", "/-/replay", "journal", write, "server")


INDEXED = (
    "/-/traces",
    *(f"/-/traces/{what}" for what in QUESTIONS[1:]),
    "/-/sessions",
    "/-/sessions/{session:path}",
)
OWN = build_catalog(_own_rows())
EXPORT = Operation(
    resource="otlp",
    action=Action.WRITE,
    route="/v1/traces",
    row="POST /v1/traces",
    reach=read_reach("body.experiment_id"),
)
# probes ask these and have no token; `ready` tells them no more than yes or no
PUBLIC = frozenset({"/-/healthy", "/-/ready"})
# in the scope of a request: nobody said who he is
UNKNOWN_CALLER = "sidespan.unknown_caller"


def access_settings(settings: Settings) -> AccessSettings:
    """What `open_access` needs."""
    asks = settings.auth.mode == "clients"
    header, oidc, logs = settings.trusted_header, settings.oidc, settings.data_dir / "logs"
    return AccessSettings(
        policy=settings.policy.build(settings.auth),
        tokens_file=tokens_file(settings) if asks else None,
        oidc=None
        if oidc.issuer is None or oidc.audience is None
        else Provider(
            issuer=oidc.issuer,
            audience=oidc.audience,
            jwks_url=oidc.jwks_url,
            client_claim=oidc.client_claim,
            roles_claim=oidc.roles_claim,
            roles=oidc.roles,
            leeway_seconds=oidc.leeway_seconds,
        ),
        header=None
        if header.name is None
        else TrustedHeader(
            name=header.name,
            roles_name=header.roles_name,
            addresses=tuple(ip_network(address) for address in header.addresses),
            roles=header.roles,
        ),
        access_log=logs / "access.jsonl" if settings.log.access else None,
        audit_log=logs / "audit.jsonl" if settings.log.audit else None,
        max_log_bytes=settings.log.max_file_bytes,
        max_log_files=settings.log.max_files,
        lookup_timeout_seconds=settings.proxy.lookup_timeout_seconds,
    )


def identity_headers(settings: Settings) -> frozenset[bytes]:
    """The headers by which an auth proxy names a client, lower-case."""
    names = (settings.trusted_header.name, settings.trusted_header.roles_name)
    return frozenset(name.lower().encode() for name in names if name)


def tokens_file(settings: Settings) -> Path:
    """Where the hashes of the tokens are."""
    return settings.auth.tokens_file or settings.data_dir / "tokens.json"


class OwnDirectory:
    """MLflow's directory, and of traces that MLflow doesn't have yet the journal's."""

    def __init__(
        self, lookup: Lookup, routes_of: RoutesOf, experiments: Experiments, index: "Indexed | None" = None
    ) -> None:
        self._lookup = lookup
        self._index = index
        self._routes_of = routes_of
        self._experiments = experiments

    async def experiment(self, id: str) -> LocatedExperiment | None:
        """As MLflow says."""
        return await self._lookup.experiment(id)

    async def named(self, name: str) -> LocatedExperiment | None:
        """As MLflow says."""
        return await self._lookup.named(name)

    async def everything(self, *, fresh: bool = False) -> Sequence[LocatedExperiment]:
        """As MLflow says."""
        return await self._lookup.everything(fresh=fresh)

    async def source_of(self, name: str, version: str) -> str | None:
        """As MLflow says."""
        return await self._lookup.source_of(name, version)

    async def owners(self, kind: ObjectKind, ids: Sequence[str]) -> dict[str, frozenset[str]]:
        """The experiments of traces: where MLflow has them, and where the journal is about to bring them."""
        if kind is not ObjectKind.TRACE:
            return await self._lookup.owners(kind, ids)
        found: dict[str, frozenset[str]] = {}
        for given in ids:
            trace_id = normal_trace_id(given)
            if trace_id is None:
                continue
            stored = await self._lookup.owners(kind, [f"tr-{trace_id}"])
            owners = stored.get(f"tr-{trace_id}") or await self.waiting(trace_id)
            if not owners and self._index is not None:  # sampled away, or gone from MLflow
                owners = await self._index.owners(trace_id)
            if owners:
                found[given] = owners
        return found

    async def waiting(self, trace_id: str) -> frozenset[str]:
        """The experiments that the journal's spans of a trace are bound for, if it has some."""
        routes = await self._routes_of(bytes.fromhex(trace_id))
        answers = [await self._experiments.resolve(route) for route in routes]
        return frozenset(answer.experiment_id if isinstance(answer, Resolved) else "" for answer in answers)


class Entrance:
    """Who comes in by `/-/` and `/v1/traces`, and with which rights."""

    def __init__(
        self, access: Access, routes_of: RoutesOf, experiments: Experiments, index: Indexed | None = None
    ) -> None:
        self._access = access
        self._index = index
        nobody = Client(name=ANONYMOUS, roles=access.gate.policy.roles_of(ANONYMOUS))
        settled = access.gate.settled(nobody, EXPORT)
        # where nobody is asked who he is, nothing is decided anew for each export
        self._is_open = not access.clients.asked and settled is not None and settled.allow
        self._lookup = access.lookup
        self._directory = OwnDirectory(access.lookup, routes_of, experiments, index)
        self._gate = Gate(access.gate.policy, self._directory)

    async def to_own_path(self, scope: Scope) -> Client:
        """The client of a request to `/-/`. Raises Refusal (401, 403, 404; 5xx if MLflow must be asked)."""
        path, method = scope["path"], scope["method"]
        operation = OWN.classify(method, path)
        try:
            client = await self._access.clients.identify(scope["headers"], peer_of(scope.get("client")))
        except Refusal:
            if path not in PUBLIC:
                raise
            scope[UNKNOWN_CALLER] = True
            return Client(name=ANONYMOUS, roles=())
        if operation.route == "unknown":
            if not any(OWN.classify(other, path).route != "unknown" for other in ("GET", "POST")):
                raise not_found(f"{path[:200]} is no path of this service")
            return client  # the wrong method: the router says which is right
        if path not in PUBLIC:
            passage = await self._gate.judge(
                Ask(
                    client=client,
                    operation=operation,
                    method=method,
                    path=path,
                    query=scope["query_string"] if operation.resource == "runs" else b"",
                )
            )
            if operation.resource == "runs":
                scope[READABLE] = self._readable(client, passage.experiments)
            if operation.route in INDEXED:
                scope[EXPERIMENTS] = await self._visible(client, operation)
            elif operation.resource == "traces" and self._gate.settled(client, operation) is None:
                scope[EXPERIMENTS] = frozenset(passage.experiments)
            await self._hide_waiting(scope, operation, set(passage.experiments))
        return client

    async def _visible(self, client: Client, operation: Operation) -> frozenset[str] | None:
        """The experiments whose traces the client may see; None: all. Raises Refusal (5xx)."""
        rights = self._gate.policy.rights(client)
        asked = replace(operation, reach=EXPORT.reach)
        everywhere = rights.everywhere(asked)
        if (everywhere is not None and everywhere.allow) or self._gate.policy.mode == "observe":
            return None
        if rights.by_id_only(asked):  # no need to know names, so MLflow may be away
            ids = () if self._index is None else await self._index.experiments()
            return frozenset(id for id in ids if rights.within(asked, PolicyExperiment(id=id)).allow)
        places = await self._lookup.everything()
        return frozenset(
            place.experiment.id for place in places if rights.within(asked, place.experiment).allow
        )

    def _readable(self, client: Client, experiments: Sequence[str]) -> frozenset[str]:
        """What beside the run itself the client may read of a run in these experiments."""
        rights = self._gate.policy.rights(client)
        found = set()
        for resource in EVERYTHING:
            operation = Operation(resource=resource, action=Action.READ, route="", reach=EXPORT.reach)
            settled = rights.everywhere(operation)
            if settled is not None:
                allowed = settled.allow
            else:
                allowed = bool(experiments) and all(
                    rights.within(operation, self._known(id)).allow for id in experiments
                )
            if allowed:
                found.add(resource)
        return frozenset(found)

    def _known(self, id: str) -> PolicyExperiment:
        """An experiment that the gate has just looked at."""
        place = self._lookup.remembered(id)
        return PolicyExperiment(id=id) if place is None else place.experiment

    async def _hide_waiting(self, scope: Scope, operation: Operation, allowed: set[str]) -> None:
        """A trace in MLflow is its experiment's; what waits in the journal under its id may be another's."""
        trace_id = normal_trace_id(operation.parameters(scope["path"]).get("trace_id", ""))
        if allowed and trace_id is not None and not await self._directory.waiting(trace_id) <= allowed:
            scope[DELIVERED_ONLY] = True

    async def to_receiver(self, scope: Scope) -> Sender:
        """Who exports, and into which experiments. Raises Rejected, Unavailable."""
        if self._is_open:
            return NOBODY
        client = Client(name=ANONYMOUS, roles=())
        try:
            client = await self._access.clients.identify(scope["headers"], peer_of(scope.get("client")))
            settled = self._gate.settled(client, EXPORT)
            if settled is not None and not settled.allow:
                raise Refusal(
                    status=403,
                    error_code="PERMISSION_DENIED",
                    message=f"client {client.name!r} may not write otlp ({settled.rule})",
                    rule=settled.rule,
                )
        except Refusal as refusal:
            self._write_down(scope, client, refusal)
            if self._access.gate.policy.mode == "observe" and refusal.status == 403:
                return Sender(name=client.name)
            raise _as_receivers_say(refusal) from None
        observed = self._access.gate.policy.mode == "observe"
        permit = None if settled is not None or observed else self._permit(client)
        return Sender(name="" if client.source == "none" else client.name, permit=permit)

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
        nowhere = Decision(allow=False, rule="no rule allows it")
        if route.workspace is not None:
            return Decision(
                allow=False, rule="a client that is limited to experiments can't choose a workspace"
            )
        if route.experiment_id is not None and rights.by_id_only(EXPORT):
            return rights.within(EXPORT, PolicyExperiment(id=route.experiment_id))
        if route.experiment_name is not None:
            named = rights.named(EXPORT, route.experiment_name)
            if named.allow and rights.by_name_only(EXPORT):
                return named
        try:
            place = (
                await self._lookup.experiment(route.experiment_id)
                if route.experiment_id is not None
                else await self._lookup.named(route.experiment_name or "")
            )
        except Refusal as refusal:
            raise _as_receivers_say(refusal) from None
        if place is None:  # made on the way out, if that is allowed
            return nowhere if route.experiment_name is None else rights.named(EXPORT, route.experiment_name)
        return rights.within(EXPORT, place.experiment)

    def _write_down(self, scope: Scope, client: Client, refusal: Refusal) -> None:
        self.write_down(
            scope, client, EXPORT, status=refusal.status, rule=refusal.rule, message=refusal.message
        )

    def write_down(
        self,
        scope: Scope,
        client: Client,
        operation: Operation,
        *,
        status: int,
        rule: str = "",
        message: str = "",
    ) -> None:
        """A line about a request to one of our own doors."""
        self._access.log.write(
            Line(
                client=client.name,
                source=client.source,
                peer=peer_of(scope.get("client")),
                method=scope["method"],
                path=scope["path"][:1024],
                resource=operation.resource,
                action=operation.action.value,
                experiments=(),
                decision=_decision(status) if message else "allowed",
                rule=rule,
                status=status,
                request_bytes=0,
                answer_bytes=0,
                seconds=0.0,
                message=message,
            )
        )


def _decision(status: int) -> str:
    """The access log's word for a refusal with this status."""
    if status >= 500:
        return "failed"
    return {400: "refused", 401: "unauthenticated"}.get(status, "denied")


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
