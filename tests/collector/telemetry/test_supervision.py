"""Tasks and child processes that are started again when they end."""

import asyncio
import sys
from asyncio.subprocess import Process
from functools import partial

import pytest

from collector.telemetry.supervision import ChildEnded, RestartPause, run_child, supervise, supervised

NONE = RestartPause(first_seconds=0.0, max_seconds=0.0)


async def test_a_bug_is_logged_once_and_the_task_runs_again(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise RuntimeError("what a span holds")

    await supervise("the task", run, pause=NONE, task="sweep")
    assert runs == 4
    (record,) = caplog.records
    assert record.message.startswith("the task failed and is started again")
    assert record.__dict__["traceback"].endswith("RuntimeError")
    assert record.__dict__["task"] == "sweep"


async def test_what_is_cancelled_is_not_started_again() -> None:
    started = []

    async def run() -> None:
        started.append(True)
        await asyncio.Event().wait()

    async with supervised("the task", run, pause=NONE):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    assert started == [True]


@pytest.mark.parametrize(
    ("ran_seconds", "last_seconds", "expected"),
    [(1.0, 1.0, 2.0), (1.0, 20.0, 30.0), (61.0, 30.0, 1.0)],
    ids=["doubles", "keeps_to_the_maximum", "starts_anew_after_a_sound_run"],
)
def test_the_pause(ran_seconds: float, last_seconds: float, expected: float) -> None:
    pause = RestartPause(first_seconds=1.0, max_seconds=30.0)
    assert pause.after(ran_seconds, last_seconds) == expected


async def start(code: str) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", code)


async def stop(child: Process) -> None:
    child.kill()
    await child.wait()


async def test_a_child_that_ends_by_itself_tells_its_exit_code() -> None:
    with pytest.raises(ChildEnded) as end:
        await run_child(partial(start, "raise SystemExit(3)"), stop)
    assert end.value.exit_code == 3


async def test_a_child_is_ended_with_its_supervisor() -> None:
    children = []

    async def started() -> Process:
        children.append(await start("import time; time.sleep(60)"))
        return children[0]

    async with supervised("the child", partial(run_child, started, stop), pause=NONE):
        while not children:
            await asyncio.sleep(0.01)
    assert children[0].returncode == -9


async def test_a_child_that_cannot_start_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def fails_twice() -> Process:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("no memory")
        return await start("import time; time.sleep(60)")

    async with supervised("the child", partial(run_child, fails_twice, stop), pause=NONE):
        while tries < 3:
            await asyncio.sleep(0.01)
    assert [record.message for record in caplog.records] == ["the child can't be started"] * 2
