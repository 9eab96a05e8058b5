"""A forked program is like one that Python was started for."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.forked import COMMAND_LINE, run_forked, sidespan_command, start_forked


def test_it_has_its_own_arguments_environment_and_folder(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.argv, os.getcwd(), dict(os.environ)); print(1, file=sys.stderr)"
    done = run_forked("-c", code, "x", imported=(), environment={"A": "b"}, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "1\n")
    assert done.stdout == f"['-c', 'x'] {tmp_path} {{'A': 'b'}}\n"


def test_a_script_finds_what_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")
    script = tmp_path / "script.py"
    script.write_text("import sys, beside; print(__name__, __file__, sys.argv, beside.NAME)\n")
    done = run_forked(str(script), "x", imported=(), environment=os.environ)
    assert done.stdout == f"__main__ {script} {[str(script), 'x']} beside\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise SystemExit(3)", 3),
        ("1 / 0", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ],
    ids=["exit", "error", "signal"],
)
def test_its_end_is_told(code: str, expected: int) -> None:
    assert run_forked("-c", code, imported=(), environment=os.environ).returncode == expected


def test_what_one_changes_the_next_does_not_see() -> None:
    run_forked("-c", "import json; json.seen = True", imported=("json",), environment=os.environ)
    code = "import json; print(hasattr(json, 'seen'))"
    assert run_forked("-c", code, imported=("json",), environment=os.environ).stdout == "False\n"


def test_one_that_does_not_end_is_ended() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_forked("-c", "import time; time.sleep(60)", imported=(), environment={}, timeout_seconds=0.1)
    done = run_forked("-c", "print('next')", imported=(), environment={})
    assert (done.returncode, done.stdout) == (0, "next\n")


def test_several_run_at_once_and_each_is_ended_for_itself(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text("before\n")
    code = "import sys, time; print(sys.argv[1], flush=True); time.sleep(60)"
    one, other = (
        start_forked("-c", code, name, imported=(), environment={}, stdout=said, stderr=said)
        for name in ("one", "other")
    )
    while len(said.read_text().splitlines()) < 3:
        time.sleep(0.01)
    assert sorted(said.read_text().split()) == ["before", "one", "other"]
    one.kill()
    assert (one.wait(60), one.poll(), other.poll()) == (-signal.SIGKILL, -signal.SIGKILL, None)
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(0.01)
    other.send_signal(signal.SIGTERM)
    assert other.wait() == -signal.SIGTERM
    other.kill()


def test_the_command_line_is_the_same() -> None:
    done = sidespan_command("token", "create", "a b")
    assert done.returncode == 2
    assert "can't be a client's name" in done.stderr
    nothing = run_forked("-m", "collector", imported=COMMAND_LINE, environment=os.environ)
    assert "Usage" in nothing.stdout + nothing.stderr
