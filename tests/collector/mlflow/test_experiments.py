"""The directory of experiments and runs: what it remembers, and what it believes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from collector.mlflow import experiments as module
from collector.mlflow.client import open_mlflow
from collector.mlflow.experiments import CannotAsk, Experiments, NoSuchExperiment, Resolved
from collector.model.batch import Route
from collector.settings import MlflowSettings
from tests.support.fake_mlflow import FakeMlflow, error, mlflow_error, running
from tests.support.ports import free_port

BY_ID, BY_NAME = Route(experiment_id="1"), Route(experiment_name="fresh")
WITH_RUN = Route(experiment_id="1", run_id="r")


@dataclass
class Directory:
    """The directory over a fake MLflow, with a clock that the test turns."""

    stack: AsyncExitStack
    mlflow: FakeMlflow = field(default_factory=FakeMlflow)
    port: int = field(default_factory=free_port)
    now: float = 1000.0

    async def open(self, *, create: bool = True, timeout_seconds: float = 1.0) -> Experiments:
        client = await self.stack.enter_async_context(
            open_mlflow(MlflowSettings(url=f"http://127.0.0.1:{self.port}"), max_connections=10)
        )
        return Experiments(
            client, create=create, lookup_timeout_seconds=timeout_seconds, now=lambda: self.now
        )

    async def serve(self) -> None:
        await self.stack.enter_async_context(running(self.mlflow, self.port))

    @property
    def questions(self) -> int:
        return len(self.mlflow.lookups)


@pytest.fixture
async def directory() -> AsyncIterator[Directory]:
    async with AsyncExitStack() as stack:
        yield Directory(stack)


async def test_an_experiment_is_found_by_id_and_by_name(directory: Directory) -> None:
    await directory.serve()
    experiments = await directory.open()
    assert await experiments.resolve(BY_ID) == Resolved(experiment_id="1")
    assert await experiments.resolve(Route(experiment_name="two")) == Resolved(experiment_id="2")


async def test_an_answer_is_remembered_for_its_time(directory: Directory) -> None:
    await directory.serve()
    experiments = await directory.open()
    await experiments.resolve(BY_ID)
    await experiments.resolve(WITH_RUN)
    assert directory.questions == 1, "the run is no part of the question"
    directory.now += module.KNOWN_SECONDS + 1
    await experiments.resolve(BY_ID)
    assert directory.questions == 2


async def test_no_is_remembered_for_a_moment_only(directory: Directory) -> None:
    await directory.serve()
    experiments = await directory.open()
    missing = Route(experiment_id="77")
    assert isinstance(await experiments.resolve(missing), NoSuchExperiment)
    assert not await experiments.exists(missing)
    assert directory.questions == 1
    directory.mlflow.experiments["77"] = "made meanwhile"
    directory.now += module.UNKNOWN_SECONDS + 1
    assert await experiments.resolve(missing) == Resolved(experiment_id="77")


async def test_what_is_forgotten_is_asked_again(directory: Directory) -> None:
    await directory.serve()
    experiments = await directory.open()
    await experiments.resolve(BY_ID)
    experiments.forget(WITH_RUN)
    await experiments.resolve(BY_ID)
    assert directory.questions == 2


async def test_questions_at_the_same_time_are_one_question(directory: Directory) -> None:
    await directory.serve()
    experiments = await directory.open()
    found = await asyncio.gather(*(experiments.resolve(BY_NAME) for _ in range(20)))
    assert len(set(found)) == 1
    assert list(directory.mlflow.experiments.values()).count("fresh") == 1
    assert directory.questions == 2, "one look and one creation"


async def test_while_mlflow_is_away_one_question_answers_all_that_wait(directory: Directory) -> None:
    directory.mlflow.lookup = lambda request: error(503)
    await directory.serve()
    experiments = await directory.open()
    assert all(await asyncio.gather(*(experiments.exists(BY_ID) for _ in range(20))))
    assert directory.questions == 1
    assert isinstance(await experiments.resolve(BY_ID), CannotAsk)
    assert directory.questions == 2, "who comes later asks anew"


async def test_a_name_is_made_once_though_another_was_faster(directory: Directory) -> None:
    await directory.serve()
    experiments = await directory.open()
    answers = iter([mlflow_error(404, "RESOURCE_DOES_NOT_EXIST"), None, None])

    def another_makes_it(request: web.Request) -> web.StreamResponse | None:
        directory.mlflow.experiments["9"] = "fresh"
        return next(answers)

    directory.mlflow.lookup = another_makes_it
    assert await experiments.resolve(BY_NAME) == Resolved(experiment_id="9")


async def test_without_permission_to_create_a_new_name_is_unknown(directory: Directory) -> None:
    await directory.serve()
    experiments = await directory.open(create=False)
    assert isinstance(await experiments.resolve(BY_NAME), NoSuchExperiment)
    assert not await experiments.exists(BY_NAME)
    assert "fresh" not in directory.mlflow.experiments.values()


async def test_a_name_that_can_be_created_exists_without_a_question(directory: Directory) -> None:
    await directory.serve()
    experiments = await directory.open()
    assert await experiments.exists(BY_NAME)
    assert directory.questions == 0


async def test_a_deleted_experiment_is_none(directory: Directory) -> None:
    await directory.serve()
    directory.mlflow.experiments["9"] = "deleted once"
    experiments = await directory.open()
    for route in (Route(experiment_id="9"), Route(experiment_name="deleted once")):
        found = await experiments.resolve(route)
        assert isinstance(found, NoSuchExperiment)
        assert "is deleted" in found.message


async def test_the_workspace_goes_with_each_question_and_keeps_answers_apart(directory: Directory) -> None:
    await directory.serve()
    experiments = await directory.open()
    await experiments.resolve(Route(experiment_name="fresh", workspace="team"))
    await experiments.resolve(BY_ID)
    await experiments.resolve(Route(experiment_id="1", workspace="team"))
    sent = [headers.get("x-mlflow-workspace") for _, _, headers in directory.mlflow.lookups]
    assert sent == ["team", "team", None, "team"]


async def test_while_mlflow_is_away_routes_are_accepted_and_it_is_not_asked_each_time(
    directory: Directory,
) -> None:
    experiments = await directory.open()
    assert isinstance(await experiments.resolve(BY_ID), CannotAsk)
    assert await experiments.exists(BY_ID)
    await directory.serve()
    assert await experiments.exists(Route(experiment_id="77")), "a moment of rest after no answer"
    directory.now += module.UNREACHABLE_SECONDS + 1
    assert not await experiments.exists(Route(experiment_id="77"))


async def test_a_slow_mlflow_holds_a_receiver_no_longer_than_its_bound(directory: Directory) -> None:
    await directory.serve()
    experiments = await directory.open(timeout_seconds=0.05)
    release = asyncio.Event()

    async def wait(request: web.Request, handler: object) -> web.StreamResponse:
        await release.wait()
        return error(500)

    directory.mlflow.experiments.clear()
    slow = web.Application(middlewares=[web.middleware(wait)])
    runner = web.AppRunner(slow, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    directory.port = port
    experiments = await directory.open(timeout_seconds=0.05)
    assert await asyncio.wait_for(experiments.exists(BY_ID), 60)
    release.set()
    await runner.cleanup()


NOT_MLFLOWS_WORD = {
    "a_page_of_a_proxy": lambda: web.Response(text="<html>log in</html>", content_type="text/html"),
    "json_of_something_else": lambda: web.json_response({"hello": "world"}),
    "a_list": lambda: web.json_response([1]),
    "an_experiment_without_id": lambda: web.json_response({"experiment": {}}),
    "404_of_a_proxy": lambda: web.Response(status=404, text="no such host"),
    "400_of_a_proxy": lambda: web.Response(status=400, text="plain HTTP to an HTTPS port"),
    "400_of_mlflows_database": lambda: mlflow_error(400, "BAD_REQUEST", "(sqlite3.InterfaceError)"),
    "404_of_another_path": lambda: mlflow_error(404, "ENDPOINT_NOT_FOUND"),
    "401": lambda: error(401),
    "403": lambda: mlflow_error(403, "PERMISSION_DENIED"),
    "302": lambda: web.Response(status=302, headers={"Location": "/login"}),
    "429": lambda: mlflow_error(429, "REQUEST_LIMIT_EXCEEDED"),
    "500": lambda: mlflow_error(500, "INTERNAL_ERROR"),
    "503": lambda: mlflow_error(503, "TEMPORARILY_UNAVAILABLE"),
}


@pytest.mark.parametrize("answer", NOT_MLFLOWS_WORD.values(), ids=NOT_MLFLOWS_WORD)
@pytest.mark.parametrize("route", [BY_ID, BY_NAME], ids=["id", "name"])
async def test_what_is_not_mlflows_considered_word_is_no_verdict(
    directory: Directory, answer: object, route: Route
) -> None:
    await directory.serve()
    assert callable(answer)
    directory.mlflow.lookup = lambda request: answer()
    experiments = await directory.open()
    assert isinstance(await experiments.resolve(route), CannotAsk)
    assert await experiments.exists(route), "such a route is accepted, and resolved later"
    assert isinstance(await experiments.run_experiment(WITH_RUN), CannotAsk)
    directory.mlflow.lookup = None
    assert isinstance(await experiments.resolve(route), Resolved), "nothing of it is remembered"


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "RESOURCE_DOES_NOT_EXIST", "said so"),
        (400, "INVALID_PARAMETER_VALUE", "said so"),
        (500, "FEATURE_DISABLED", "workspaces are not enabled: said so"),
    ],
    ids=["no_such_experiment", "malformed_id", "no_workspaces_here"],
)
async def test_mlflows_considered_no_is_a_verdict(
    directory: Directory, status: int, code: str, message: str
) -> None:
    await directory.serve()
    directory.mlflow.lookup = lambda request: mlflow_error(status, code, message)
    experiments = await directory.open()
    found = await experiments.resolve(BY_ID)
    assert isinstance(found, NoSuchExperiment)
    assert "said so" in found.message
    assert not await experiments.exists(BY_ID)


@pytest.mark.parametrize(
    ("id", "status", "code", "known_not_to_exist"),
    [
        ("9223372036854775808", 500, "INTERNAL_ERROR", True),
        ("2147483648", 400, "BAD_REQUEST", True),
        ("2147483648", 500, "INTERNAL_ERROR", False),
        ("2147483647", 400, "BAD_REQUEST", False),
    ],
    ids=["over_int64", "over_int32", "over_int32_in_sqlite", "fits"],
)
async def test_an_id_that_no_column_holds_is_no_experiment(
    directory: Directory, id: str, status: int, code: str, known_not_to_exist: bool
) -> None:
    await directory.serve()
    directory.mlflow.lookup = lambda request: mlflow_error(status, code, "the database says so")
    experiments = await directory.open()
    found = await experiments.resolve(Route(experiment_id=id))
    assert isinstance(found, NoSuchExperiment) == known_not_to_exist


async def test_a_run_is_remembered_and_an_unknown_one_for_a_moment(directory: Directory) -> None:
    await directory.serve()
    experiments = await directory.open()
    assert await experiments.run_experiment(WITH_RUN) is None
    directory.mlflow.runs.add("r")
    assert await experiments.run_experiment(WITH_RUN) is None
    directory.now += module.UNKNOWN_SECONDS + 1
    assert await experiments.run_experiment(WITH_RUN) == "1"
    directory.mlflow.runs.clear()
    assert await experiments.run_experiment(WITH_RUN) == "1"
    assert directory.questions == 2


async def test_a_run_cannot_be_asked_for_while_mlflow_is_away(directory: Directory) -> None:
    experiments = await directory.open()
    assert isinstance(await experiments.run_experiment(WITH_RUN), CannotAsk)


async def test_the_memory_is_bounded(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 5)
    await directory.serve()
    experiments = await directory.open(create=False)
    for number in range(100, 120):
        await experiments.resolve(Route(experiment_id=str(number)))
        await experiments.run_experiment(Route(experiment_id="1", run_id=str(number)))
    assert len(experiments._known) == 5
    assert len(experiments._runs) == 5
    assert experiments._questions == {}
