"""The guard of our own paths: what is written down about whom, and which rights the handler gets."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from collector.answers.rights import EVERYTHING
from collector.api.access import access_settings
from collector.api.directory import OwnDirectory
from collector.api.guard import guarded
from collector.api.own_admission import OwnAdmission
from collector.api.reading import rights_of
from collector.mlflow.client import open_mlflow
from collector.mlflow.experiments import Experiments
from collector.model.batch import Route
from collector.settings import MlflowSettings, Settings, load
from proxy import open_access
from tests.support.fake_mlflow import FakeMlflow, running
from tests.support.ports import free_port
from tests.support.proxied import tokens_for, upstream_at

# the fake has experiments 1 "one" and 2 "two"
POLICY = """
data_dir = "{home}/data"
[auth]
mode = "clients"
[policy.clients]
root = ["open"]
team = ["one"]
[[policy.roles.one]]
preset = "read-only"
experiments = ["1"]
"""
# both are in MLflow, in experiment 1; spans of the second also wait for delivery into experiment 2
DELIVERED, CLAIMED = "1" * 32, "2" * 32


class IndexedExperiments:
    """What rights ask of the index."""

    async def experiments(self) -> list[str]:
        return ["1", "2"]

    async def owners(self, trace_id: str) -> frozenset[str]:
        return frozenset()


def all_in_experiment_1(request: web.Request) -> web.StreamResponse | None:
    if not request.path.endswith("/traces/batchGetInfos"):
        return None
    location = {"mlflow_experiment": {"experiment_id": "1"}}
    infos = [{"trace_id": f"tr-{id}", "trace_location": location} for id in (DELIVERED, CLAIMED)]
    return web.json_response({"trace_infos": infos})


class Guarded:
    """Our own paths, behind whose guard the client's rights are the answer."""

    def __init__(self, app: Any, settings: Settings, tokens: Mapping[str, str]) -> None:
        self.app, self.settings, self.tokens = app, settings, tokens

    async def ask(self, client: str | None, method: str, path: str) -> tuple[int, Any]:
        headers = [(b"host", b"127.0.0.1")]
        if client is not None:
            headers.append((b"authorization", f"Bearer {self.tokens[client]}".encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": headers,
            "client": ("192.0.2.1", 1),
            "scheme": "http",
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    def audited(self) -> list[tuple[str, str, str]]:
        lines = (self.settings.data_dir / "logs" / "audit.jsonl").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [(line["client"], line["path"], line["decision"]) for line in found]


async def tell_rights(scope: Scope, receive: Receive, send: Send) -> None:
    rights = rights_of(Request(scope))
    document = {
        "experiments": rights.experiment_ids,
        "pending": rights.pending,
        "run_resources": sorted(rights.run_resources),
        "identified": rights.identified,
    }
    await JSONResponse(document)(scope, receive, send)


ALL = {
    "experiments": None,
    "pending": True,
    "run_resources": sorted(EVERYTHING.run_resources),
    "identified": True,
}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Guarded]:
    file = tmp_path / "sidespan.toml"
    file.write_text(POLICY.format(home=tmp_path))
    settings = load(environment={}, file=file)
    tokens = tokens_for(settings.data_dir / "tokens.json", "root", "team")

    async def pending_routes(trace_id: bytes) -> list[Route]:
        return [Route(experiment_id="2")] if trace_id.hex() == CLAIMED else []

    async with (
        running(FakeMlflow(lookup=all_in_experiment_1), free_port()) as url,
        open_mlflow(MlflowSettings(url=url), max_connections=4) as mlflow,
        open_access(access_settings(settings), upstream_at(url)) as access,
    ):
        experiments = Experiments(mlflow, create=True, lookup_timeout_seconds=1)
        directory = OwnDirectory(access.lookup, pending_routes, experiments, IndexedExperiments())
        admission = OwnAdmission(access, directory)
        yield Guarded(guarded(tell_rights, settings.server, admission, access.log), settings, tokens)


async def test_a_refusal_is_written_down_under_the_name_of_who_was_refused(service: Guarded) -> None:
    assert (await service.ask("team", "GET", "/-/dead-letters"))[0] == 403
    assert (await service.ask(None, "GET", "/-/dead-letters"))[0] == 401
    assert service.audited() == [
        ("team", "/-/dead-letters", "denied"),
        ("anonymous", "/-/dead-letters", "unauthenticated"),
    ]


async def test_a_change_is_written_down_and_a_read_is_not(service: Guarded) -> None:
    assert (await service.ask("root", "GET", "/-/dead-letters"))[0] == 200
    assert (await service.ask("root", "POST", "/-/replay"))[0] == 200
    assert service.audited() == [("root", "/-/replay", "allowed")]


@pytest.mark.parametrize(
    ("client", "path", "rights"),
    [
        ("root", "/-/traces", ALL),
        ("root", f"/-/traces/{CLAIMED}", ALL),
        ("root", "/-/ready", ALL),
        (None, "/-/ready", ALL | {"identified": False}),
        (None, "/-/healthy", ALL | {"identified": False}),
        ("team", "/-/ready", ALL),
        ("team", "/-/traces", ALL | {"experiments": ["1"]}),
        ("team", "/-/sessions/a/b", ALL | {"experiments": ["1"]}),
        ("team", f"/-/traces/{DELIVERED}", ALL | {"experiments": ["1"]}),
        ("team", f"/-/traces/{CLAIMED}", ALL | {"experiments": ["1"], "pending": False}),
    ],
)
async def test_the_handler_gets_what_the_client_may_see(
    service: Guarded, client: str | None, path: str, rights: dict[str, Any]
) -> None:
    assert await service.ask(client, "GET", path) == (200, rights)


async def test_a_path_that_is_none_of_ours_is_404_and_the_wrong_method_shows_nothing(
    service: Guarded,
) -> None:
    assert (await service.ask("root", "GET", "/-/made-up"))[0] == 404
    status, rights = await service.ask("root", "GET", "/-/replay")
    assert status == 200, "the router answers 405"
    assert rights == {"experiments": [], "pending": False, "run_resources": [], "identified": False}
