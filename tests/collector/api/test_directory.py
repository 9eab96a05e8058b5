"""Whose a trace is that MLflow doesn't have yet."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from collector.api.directory import OwnDirectory
from collector.journal import CannotTell
from collector.mlflow.experiments import CannotAsk, Resolved
from collector.model.batch import Route
from proxy.locations import ObjectKind


class Experiments:
    async def resolve(self, route: Route) -> Resolved | CannotAsk:
        id = route.experiment_id
        return CannotAsk(message="away") if id is None else Resolved(experiment_id=id)


class Lookup:
    """MLflow, which has no trace."""

    async def owners(self, kind: ObjectKind, ids: Sequence[str]) -> dict[str, frozenset[str]]:
        return {}


@dataclass
class Indexed:
    found: frozenset[str]

    async def owners(self, trace_id: str) -> frozenset[str]:
        return self.found

    async def experiments(self) -> Sequence[str]:
        return sorted(self.found)


@pytest.mark.parametrize(
    ("routes", "indexed", "owners"),
    [
        (CannotTell(reason="another replica has it"), {"3"}, {"3"}),
        (CannotTell(reason="another replica has it"), set(), {""}),
        ([Route(experiment_id="1")], {"3"}, {"1"}),
        ([], {"3"}, {"3"}),
    ],
    ids=["the_index_knows", "nobody_knows_so_it_is_nobodys", "what_waits_says_it", "nothing_waits"],
)
async def test_where_the_log_cannot_tell_whose_a_trace_is_the_index_is_asked(
    routes: Sequence[Route] | CannotTell, indexed: set[str], owners: set[str]
) -> None:
    async def routes_of(trace_id: bytes) -> Sequence[Route] | CannotTell:
        return routes

    index = Indexed(frozenset(indexed))
    directory = OwnDirectory(Lookup(), routes_of, Experiments(), index)  # type: ignore[arg-type]
    found = await directory.owners(ObjectKind.TRACE, [f"tr-{'0' * 32}"])
    assert found == {f"tr-{'0' * 32}": owners}


@pytest.mark.parametrize(
    ("routes", "owners"),
    [
        ([Route(experiment_id="1"), Route(experiment_id="2")], {"1", "2"}),
        ([Route(experiment_name="unknown")], {""}),
        ([], set()),
        (CannotTell(reason="not now"), {""}),
    ],
    ids=["known", "unresolved_is_nobodys", "nothing_waits", "cannot_tell_is_nobodys"],
)
async def test_what_waits_belongs_to_where_it_is_bound_for(
    routes: Sequence[Route] | CannotTell, owners: set[str]
) -> None:
    async def routes_of(trace_id: bytes) -> Sequence[Route] | CannotTell:
        return routes

    directory = OwnDirectory(None, routes_of, Experiments())  # type: ignore[arg-type]
    assert await directory.pending_owners("0" * 32) == owners
