"""The page's pure modules, by Node's own test runner: tests/page/*.test.js."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHECKS = Path(__file__).parents[2] / "page"
# from here on Node takes a file with imports for a module
OLDEST_NODE = (20, 19)


def node_version() -> tuple[int, ...]:
    """Of the Node that is here; (0,) if there is none."""
    if not shutil.which("node"):
        return (0,)
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in said.strip().removeprefix("v").split("."))


def test_what_the_page_calculates_is_right() -> None:
    if node_version() < OLDEST_NODE:
        pytest.skip("needs Node 20.19 or later")
    files = [str(path) for path in sorted(CHECKS.glob("*.test.js"))]
    assert files
    done = subprocess.run(["node", "--test", *files], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
