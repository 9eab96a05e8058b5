"""The processes that make rows beside the index's own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
HOLDER = """
import os, sys, time
from collector.index.rows.crew import Crew

if __name__ == "__main__":
    crew = Crew(1)  # one that nobody holds ends its helpers
    print(crew.start(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def _lives(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_a_helper_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "holder.py"
    script.write_text(HOLDER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    ) as holder:
        assert holder.stdout is not None
        helper = int(holder.stdout.readline())
        assert _lives(helper)
        os.kill(holder.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while _lives(helper) and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        assert not _lives(helper)
    finally:
        if _lives(helper):
            os.kill(helper, signal.SIGKILL)
