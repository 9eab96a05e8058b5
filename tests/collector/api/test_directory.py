"""Whose a trace is that MLflow doesn't have yet."""

from collections.abc import Sequence

import pytest

from collector.api.directory import OwnDirectory
from collector.journal import CannotTell
from collector.mlflow.experiments import CannotAsk, Resolved
from collector.model.batch import Route


class Experiments:
    async def resolve(self, route: Route) -> Resolved | CannotAsk:
        id = route.experiment_id
        return CannotAsk(message="away") if id is None else Resolved(experiment_id=id)


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
