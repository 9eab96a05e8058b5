"""Two experiments with all that may belong to one, and a gate in front of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.ask import Ask, Passage
from proxy.catalog import load_catalog
from proxy.gate import Gate
from proxy.locations import ObjectKind
from proxy.lookup import LocatedExperiment
from proxy.policy import Client, Policy, PolicyExperiment, RuleText, build_policy
from tests.proxy.worlds import Built, World

KINDS = (
    ObjectKind.RUN,
    ObjectKind.MODEL,
    ObjectKind.ISSUE,
    ObjectKind.SCHEMA,
    ObjectKind.QUEUE,
    ObjectKind.JOB,
    ObjectKind.DATASET,
)


def world(letter: str, experiment: str) -> World:
    ids = {kind: f"{letter}-{kind.name.lower()}" for kind in KINDS} | {
        ObjectKind.TRACE: f"tr-{letter * 32}",
        ObjectKind.ITEM: f"tr-{letter * 32}",
        ObjectKind.ARTIFACT: f"{experiment}/{letter}-run/artifacts/file.txt",
        ObjectKind.MODEL: f"m-{letter}",
    }
    return World(
        marker=letter * 8,
        experiment=experiment,
        name=f"team-{letter}/one",
        ids=ids,
        model_name=f"model-{letter}",
    )


A, B = world("a", "11"), world("b", "12")


@dataclass
class Directory:
    """Two worlds, and nothing else."""

    worlds: Sequence[World] = (A, B)
    places: dict[str, LocatedExperiment] = field(default_factory=dict)
    asked: int = 0

    def __post_init__(self) -> None:
        for each in self.worlds:
            experiment = PolicyExperiment(id=each.experiment, name=each.name)
            self.places[each.experiment] = LocatedExperiment(experiment=experiment, artifacts=each.experiment)

    async def experiment(self, id: str) -> LocatedExperiment | None:
        self.asked += 1
        return self.places.get(id)

    async def named(self, name: str) -> LocatedExperiment | None:
        self.asked += 1
        return next((place for place in self.places.values() if place.experiment.name == name), None)

    async def everything(self, *, fresh: bool = False) -> Sequence[LocatedExperiment]:
        self.asked += 1
        return list(self.places.values())

    async def owners(self, kind: ObjectKind, ids: Sequence[str]) -> dict[str, frozenset[str]]:
        self.asked += 1
        return {
            id: frozenset({each.experiment}) for id in ids for each in self.worlds if each.ids.get(kind) == id
        }

    async def source_of(self, name: str, version: str) -> str | None:
        self.asked += 1
        found = next((each for each in self.worlds if each.model_name == name), None)
        return None if found is None else f"runs:/{found.ids[ObjectKind.RUN]}/model"


OPEN = [RuleText(allow=("*:*",), experiments=("team-a/*",)), RuleText(allow=("models:*", "model-versions:*"))]


def limited(*rules: RuleText, clients: Mapping[str, Sequence[str]] | None = None) -> Policy:
    return build_policy(roles={"team": list(rules) or OPEN}, clients=clients or {"alice": ["team"]})


ALICE = Client(name="alice", roles=("team",), source="token")


async def ask(built: Built, policy: Policy | None = None, directory: Directory | None = None) -> Passage:
    return await send(built.method, built.target, built.body, policy=policy, directory=directory)


async def send(
    method: str,
    target: str,
    body: Any = None,
    *,
    policy: Policy | None = None,
    directory: Directory | None = None,
    client: Client = ALICE,
    **headers: str,
) -> Passage:
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()

    async def read() -> bytes:
        return content or b""

    path, _, query = target.partition("?")
    request = Ask(
        client=client,
        operation=load_catalog().classify(method, path),
        method=method,
        path=path,
        query=query.encode(),
        content_type=headers.get("content_type", "application/json"),
        content_encoding=headers.get("content_encoding"),
        workspace=headers.get("workspace"),
        read_body=None if content is None else read,
    )
    return await Gate(policy or limited(), directory or Directory()).judge(request)
