"""A run of the tests says nothing after pytest's last line."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# a connection to DuckDB, then a property: what Hypothesis leaves behind held on to the binding's types
BOTH = (
    "tests/collector/index/test_queries.py::test_an_empty_index_has_empty_answers",
    "tests/collector/index/test_index_store.py::test_any_text_has_a_bounded_group",
)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [(), ("--numprocesses", "2")], ids=["one_process", "two_processes"])
def test_a_run_with_duckdb_and_hypothesis_reports_no_leak_at_exit(options: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *BOTH],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "passed" in done.stdout.splitlines()[-1]
