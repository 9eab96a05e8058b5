"""The decision on one request: operation -> everywhere, or experiment by experiment.

    settled      the policy says the same for every experiment: no look-up, no body is read
    limited      the experiments that the request touches are found (ids in path, query, body, GraphQL;
                 objects by asking MLflow), and each must be allowed
    narrowed     lists are cut down to what the client may see
    presigned    an address in the storage instead of a file needs `artifacts.presigned` as well
    spending     a value that makes MLflow's host call a model needs `spend` as well
    denied       what can't be scoped surely

What a limited client may not see and what isn't there get the same answer: a denial must not tell which.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import unquote

from proxy import narrow, spending, widening
from proxy.ask import Answer, Ask, Directory, Passage
from proxy.catalog import Action, Operation
from proxy.denials import could_be_open, denial, has_location, list_parameters, location_names
from proxy.errors import Refusal, denied, invalid, not_found
from proxy.locations import Location, ObjectKind, find
from proxy.lookup import artifact_path
from proxy.policy import NO_RULE, Client, Decision, Policy, PolicyExperiment, Rights
from proxy.reading import Query, check_id, read_json, read_query


@dataclass(slots=True, kw_only=True)
class _Work:
    """What is known of a request while it is decided."""

    ask: Ask
    rights: Rights
    query: Query
    document: dict[str, Any] | None = None
    body: bytes | None = None
    touched: dict[str, None] = field(default_factory=dict)


class Gate:
    """The policy of one service, with the directory that it needs."""

    def __init__(self, policy: Policy, directory: Directory) -> None:
        self.policy = policy
        self._directory = directory
        self._settled: dict[tuple[tuple[str, ...], str, str], Decision | None] = {}

    def settled(self, client: Client, operation: Operation) -> Decision | None:
        """As `Rights.everywhere`, remembered: it depends on the roles and the route only."""
        key = (client.roles, operation.row, operation.route)
        if key not in self._settled:
            if len(self._settled) >= MAX_SETTLED:
                self._settled.clear()
            self._settled[key] = self.policy.rights(client).everywhere(operation)
        return self._settled[key]

    async def judge(self, ask: Ask) -> Passage:
        """Whether and how the request may pass. Raises Refusal (400, 403, 404, 413, 415; 502, 504 where
        MLflow must be asked and can't).
        """
        rights = self.policy.rights(ask.client)
        settled = self.settled(ask.client, ask.operation)
        if rights.unlimited and settled is not None and settled.allow:
            return Passage(rule=settled.rule)  # nothing hangs on what it says: MLflow hears it as it is
        work = _Work(
            ask=ask,
            rights=rights,
            query=read_query(ask.query, lists=list_parameters(ask.operation)),
        )
        try:
            passage = await self._check_presigned(work, await self._judge(work))
            return await self._check_spending(work, passage)
        except Refusal as refusal:
            if self.policy.mode != "observe" or not could_be_open(refusal, work.ask.operation):
                raise
            return Passage(
                rule=refusal.rule, experiments=tuple(work.touched), observed=refusal.message, body=work.body
            )

    async def _judge(self, work: _Work) -> Passage:
        operation = work.ask.operation
        settled = self.settled(work.ask.client, operation)
        if settled is not None and not settled.allow:
            raise denial(work.ask, settled.rule)
        if operation.row in widening.ROWS:
            await self._check_widening(work)
        if operation.reach.graphql:
            return await self._graphql(work)
        source = next((at for at in operation.reach.locations if at.role == "source"), None)
        if source is not None:
            return await self._source(work, source)
        if settled is not None:
            return Passage(rule=settled.rule, body=work.body)
        return await self._limited(work)

    async def _limited(self, work: _Work) -> Passage:
        ask, operation = work.ask, work.ask.operation
        if ask.workspace is not None:
            raise denial(ask, "a client that is limited to experiments can't choose a workspace")
        if ask.query and ask.method not in ("GET", "HEAD") and not has_location(operation, "query"):
            raise invalid(f"{ask.method} {ask.path[:200]} takes no query")
        if has_location(operation, "body"):
            await self._read(work)
        listing = next((at for at in operation.reach.locations if at.role in ("narrow", "fill", "all")), None)
        if listing is not None:
            return await self._narrowed(work, listing)
        rule = await self._check_locations(work)
        answer: Answer | None = None
        if operation.resource == "datasets" and operation.action is Action.READ:
            answer = partial(narrow.hide_experiments, visible=await self._visible(work))
        return Passage(rule=rule, experiments=tuple(work.touched), body=work.body, answer=answer)

    async def _check_locations(self, work: _Work) -> str:
        """The rule by which every experiment of the request is allowed."""
        operation = work.ask.operation
        rule, found = "", False
        for at in operation.reach.locations:
            values = self._values(work, at)
            missing = not values and at.kind is ObjectKind.EXPERIMENT and operation.action is not Action.READ
            if missing and at.role == "id":
                raise denial(
                    work.ask, f"{at.name} is missing, so that nobody knows which experiment is meant"
                )
            if not values:
                continue
            found = True
            match at.role:
                case "name" | "named":
                    rule = await self._named(work, at, values[0])
                case "version":
                    rule = await self._version(work, values[0])
                case _:
                    rule = await self._objects(work, operation, at.kind, values, new=at.role == "new")
        if not found:
            raise denial(
                work.ask,
                f"{location_names(operation)} is missing, so that nobody knows which experiment is meant",
            )
        return rule

    def _values(self, work: _Work, at: Location) -> list[str]:
        match at.place:
            case "path":
                value = work.ask.operation.parameters(work.ask.path).get(at.keys[0])
                # a trace file's route names its parts; the whole is the path in the storage
                if at.kind is ObjectKind.ARTIFACT:
                    value = work.ask.path.split("/mlflow-artifacts/artifacts/", 1)[-1]
                values = [value] if value else []
            case "query":
                values = [value for value in work.query.get(at.name, ()) if value]
            case _:
                values = list(find(work.document or {}, at.keys))
        if at.kind not in (ObjectKind.ARTIFACT, ObjectKind.TEXT, ObjectKind.ITEM):
            for value in values:
                check_id(at.kind, value, at.name)
        return values

    async def _objects(
        self, work: _Work, operation: Operation, kind: ObjectKind, ids: Sequence[str], *, new: bool = False
    ) -> str:
        """The rule that allows the operation on each object. Raises Refusal (403)."""
        rule = "nothing that is there yet"
        if kind is ObjectKind.ITEM:
            kind, ids = ObjectKind.TRACE, [id for id in ids if id.startswith("tr-")]
        if kind is ObjectKind.EXPERIMENT:
            owners = {id: frozenset({id}) for id in ids}
        elif kind is ObjectKind.ARTIFACT:
            owners = {path: await self._artifact_owners(path) for path in ids}
        else:
            owners = await self._directory.owners(kind, ids)
        for id in ids:
            found = owners.get(id)
            if found is None and new:
                continue
            decisions = [await self._within(work, operation, owner) for owner in sorted(found or ())]
            enough = any if kind is ObjectKind.DATASET and operation.action is Action.READ else all
            if not decisions or not enough(decision.allow for decision in decisions):
                bad = next((decision.rule for decision in decisions if not decision.allow), "")
                raise denial(work.ask, bad or NO_RULE, f"{kind.value} {id[:120]!r}", operation)
            rule = next(decision.rule for decision in decisions if decision.allow)
        return rule

    async def _within(self, work: _Work, operation: Operation, experiment_id: str) -> Decision:
        work.touched[experiment_id] = None
        if work.rights.by_id_only(operation):
            return work.rights.within(operation, PolicyExperiment(id=experiment_id))
        place = await self._directory.experiment(experiment_id)
        if place is None:
            return Decision(allow=False, rule=NO_RULE)
        return work.rights.within(operation, place.experiment)

    async def _named(self, work: _Work, at: Location, name: str) -> str:
        ask, operation = work.ask, work.ask.operation
        decision = work.rights.named(operation, name)
        if at.role == "name":
            if not decision.allow:
                raise denial(ask, decision.rule, f"an experiment named {name[:120]!r}", operation)
            return decision.rule
        if decision.allow and work.rights.by_name_only(operation):
            return decision.rule
        place = await self._directory.named(name)
        found = decision if place is None else work.rights.within(operation, place.experiment)
        if found.allow:
            if place is not None:
                work.touched[place.experiment.id] = None
            return found.rule
        raise not_found(f"Could not find experiment with name '{name[:500]}'", decision.rule)

    async def _artifact_owners(self, path: str) -> frozenset[str]:
        """The experiments whose files are at, above or below a path of `mlflow-artifacts:`."""
        clean = path.strip("/")
        segments = clean.split("/")
        if unquote(clean) != clean or any(part in ("", ".", "..") for part in segments) or "\\" in clean:
            raise invalid(f"Invalid path: {path[:120]!r} is not a plain path of artifacts")
        for fresh in (False, True):
            places = await self._directory.everything(fresh=fresh)
            above = [
                p for p in places if p.artifacts is not None and (clean + "/").startswith(p.artifacts + "/")
            ]
            if above:
                owner = max(above, key=lambda place: len(place.artifacts or ""))
                below = [p for p in places if p.artifacts and p.artifacts.startswith(clean + "/")]
                return frozenset(place.experiment.id for place in (owner, *below))
        return frozenset()

    async def _narrowed(self, work: _Work, at: Location) -> Passage:
        if at.role == "all":
            return await self._filtered(work, at)
        operation = work.ask.operation
        wanted = self._values(work, at)
        if at.place == "body":
            narrow.check_entries(work.document or {}, at.keys)
        decisions = {id: await self._within(work, operation, id) for id in dict.fromkeys(wanted)}
        allowed = {id for id, decision in decisions.items() if decision.allow}
        visible = await self._visible(work) if at.role == "fill" else frozenset()
        fill = sorted(visible, key=int) if not wanted else []
        if not allowed and not fill:
            rule = next((d.rule for d in decisions.values()), f"{at.name} is missing")
            raise denial(work.ask, rule, "experiments " + ", ".join(map(repr, wanted[:10])) if wanted else "")
        passage = Passage(
            rule=next((d.rule for d in decisions.values() if d.allow), NARROWED),
            experiments=tuple(work.touched),
            body=work.body,
            answer=partial(narrow.hide_experiments, visible=visible) if at.role == "fill" else None,
        )
        if len(allowed) == len(decisions) and not fill:
            return passage
        if at.place == "query":
            return replace(passage, query=narrow.narrow_query(work.query, at.name, allowed, fill))
        return replace(passage, body=narrow.narrow_body(work.document or {}, at.keys, allowed, fill))

    async def _filtered(self, work: _Work, at: Location) -> Passage:
        visible = await self._visible(work)
        in_query = at.place == "query"
        return Passage(
            rule=NARROWED,
            query=narrow.filter_query(work.query, visible) if in_query else None,
            body=None if in_query else narrow.filter_body(work.document or {}, visible),
            answer=partial(narrow.hide_experiments, visible=visible),
        )

    async def _visible(self, work: _Work) -> frozenset[str]:
        places = await self._directory.everything()
        operation = work.ask.operation
        return frozenset(
            place.experiment.id for place in places if work.rights.within(operation, place.experiment).allow
        )

    async def _graphql(self, work: _Work) -> Passage:
        from proxy.graphql import read_graphql  # its parser costs a start more than it should

        rule = ""
        for asked in read_graphql(await self._read(work)):
            settled = work.rights.everywhere(asked.operation)
            if settled is not None:
                if not settled.allow:
                    raise denial(work.ask, settled.rule, operation=asked.operation)
                rule = settled.rule
                continue
            if work.ask.workspace is not None or not asked.ids:
                raise denial(work.ask, "the field names no experiment or run", operation=asked.operation)
            for kind, id in asked.ids:
                rule = await self._objects(work, asked.operation, kind, [check_id(kind, id, kind.value)])
        return Passage(rule=rule, experiments=tuple(work.touched), body=work.body)

    async def _source(self, work: _Work, at: Location) -> Passage:
        """A model version: the registry is the server's, its files are some experiment's."""
        operation = work.ask.operation
        decision = work.rights.on_server(operation)
        if not decision.allow:
            raise denial(work.ask, decision.rule)
        reading = replace(READ_ARTIFACTS, row=operation.row)
        settled = work.rights.everywhere(reading)
        if settled is None or not settled.allow:
            document = await self._read(work)
            for kind, key in ((ObjectKind.RUN, "run_id"), (ObjectKind.MODEL, "model_id")):
                for id in find(document, (key,)):
                    await self._objects(work, reading, kind, [check_id(kind, id, key)])
            sources = self._values(work, at)
            if not sources:
                raise denial(work.ask, f"{at.name} is missing, so that nobody knows whose files are meant")
            for source in sources:
                if source != "dummy-source":
                    await self._source_allowed(work, reading, source)
        return Passage(rule=decision.rule, experiments=tuple(work.touched), body=work.body)

    async def _version(self, work: _Work, name: str) -> str:
        """The rule that allows the files of a model version; they are in the experiment of its source."""
        version = next(iter(work.query.get("version", ())), "")
        source = await self._directory.source_of(name, version)
        try:
            return await self._source_allowed(work, work.ask.operation, source)
        except Refusal as refusal:
            if refusal.status >= 500:
                raise
            raise denial(work.ask, NO_RULE, f"version {version[:20]!r} of model {name[:120]!r}") from None

    async def _source_allowed(self, work: _Work, operation: Operation, source: str | None) -> str:
        """The rule that allows the files at an address of a model version."""
        scheme, _, rest = (source or "").partition(":")
        first = rest.strip("/").split("/")[0]
        if scheme == "runs":
            return await self._objects(
                work, operation, ObjectKind.RUN, [check_id(ObjectKind.RUN, first, "source")]
            )
        if scheme == "models" and first.startswith("m-"):
            return await self._objects(
                work, operation, ObjectKind.MODEL, [check_id(ObjectKind.MODEL, first, "source")]
            )
        if scheme == "mlflow-artifacts" and (path := artifact_path(source)):
            return await self._objects(work, operation, ObjectKind.ARTIFACT, [path])
        raise denial(
            work.ask, "its files can't be told to be in an experiment of the client", operation=operation
        )

    async def _check_widening(self, work: _Work) -> None:
        document = await self._read(work)
        for value in widening.places(work.ask.operation.row, document, roots=self.policy.artifact_roots):
            needed = replace(WIDEN, row=work.ask.operation.row + " elsewhere")
            decision = work.rights.everywhere(needed)
            if decision is None or not decision.allow:
                raise denied(
                    f"client {work.ask.client.name!r} may not say where files lie ({value[:120]!r}): that "
                    f"needs {widening.ARTIFACT_LOCATIONS}:admin, or the place in policy.artifact_roots",
                    decision.rule if decision else "",
                )

    async def _check_presigned(self, work: _Work, passage: Passage) -> Passage:
        """The passage; where an address in the storage is asked for instead of the file, if that is allowed.

        Raises Refusal (403). MLflow 3.18 knows the parameter on the files of models.
        """
        operation = work.ask.operation
        if operation.resource != READ_ARTIFACTS.resource or "presigned" not in work.query:
            return passage
        needed = replace(operation, resource="artifacts.presigned", row=f"{operation.row} presigned")
        work.ask = replace(work.ask, operation=needed)
        return await self._judge(work)

    async def _check_spending(self, work: _Work, passage: Passage) -> Passage:
        """The passage, if what the body makes MLflow's host call is allowed too. Raises Refusal (403)."""
        operation = work.ask.operation
        if operation.row not in spending.ROWS:
            return passage
        needed = replace(operation, action=Action.SPEND, row=f"{operation.row} that spends")
        settled = self.settled(work.ask.client, needed)
        if settled is not None and settled.allow:
            return passage
        if spending.spends(operation.row, await self._read(work)):
            work.ask = replace(work.ask, operation=needed)
            await self._judge(work)
        return replace(passage, body=work.body)

    async def _read(self, work: _Work) -> dict[str, Any]:
        if work.document is None:
            ask = work.ask
            work.body = await ask.read_body() if ask.read_body is not None else b""
            work.document = read_json(work.body, ask.content_type, ask.content_encoding)
        return work.document


MAX_SETTLED = 10_000
NARROWED = "narrowed to its experiments"
READ_ARTIFACTS = Operation(resource="artifacts", action=Action.READ, route="")
WIDEN = Operation(resource=widening.ARTIFACT_LOCATIONS, action=Action.ADMIN, route="")
