"""The import rules: data flows one way, and the pure parts stay pure."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPURE = {"asyncio", "aiohttp", "sqlite3", "starlette", "logging", "time", "random", "os", "socket"}

PURE = [
    "collector/otlp",
    "collector/routing.py",
    "collector/batch.py",
    "collector/errors.py",
    "collector/prepare.py",
    "collector/delivery/answers.py",
    "collector/delivery/backoff.py",
    "collector/delivery/bisect.py",
    "collector/delivery/group.py",
    "collector/delivery/forward.py",
    "collector/harmonise",
    "collector/index/columns.py",
    "collector/index/conventions.py",
    "collector/index/facts.py",
    "collector/index/normal.py",
    "collector/index/place.py",
    "collector/index/prices.py",
    "collector/index/rows.py",
    "collector/index/sources.py",
    "collector/index/values.py",
    "collector/index/wire.py",
    "collector/queries/asked.py",
    "collector/queries/filters.py",
    "collector/queries/overview.py",
    "collector/queries/stats.py",
    "collector/queries/tables.py",
    "collector/process",
    "collector/summaries/trace.py",
    "collector/summaries/tree.py",
    "collector/summaries/counting.py",
    "collector/summaries/paths.py",
    "collector/summaries/totals.py",
    "proxy/catalog.py",
    "proxy/errors.py",
    "proxy/guard.py",
    "proxy/headers.py",
    "proxy/policy.py",
    "proxy/presets.py",
    "proxy/locations.py",
    "proxy/reading.py",
    "proxy/narrow.py",
    "proxy/graphql.py",
    "proxy/widening.py",
    "proxy/target.py",
    "instrumentation/settings.py",
]

# (folder or file, what it must not import, why)
FORBIDDEN = [
    ("proxy", ["collector", "instrumentation", "mlflow"], "the proxy knows nothing of the collector"),
    ("instrumentation", ["collector", "proxy", "mlflow"], "an agent process carries no service"),
    ("collector", ["mlflow", "instrumentation"], "the service talks HTTP to MLflow"),
    ("collector/receivers", ["collector.journal", "collector.delivery"], "receivers know Append only"),
    (
        "collector/decoder",
        ["collector.journal", "collector.delivery", "collector.receivers"],
        "the decoder turns bytes into drafts and knows nobody",
    ),
    ("collector/ingest.py", ["collector.journal"], "ingest gets `append` as an argument"),
    ("collector/delivery", ["collector.receivers", "collector.summaries"], "no arrow runs back up"),
    ("collector/process", ["collector.journal", "collector.delivery"], "processors see spans only"),
    ("collector/sampling.py", ["collector.delivery"], "consumers don't know each other"),
    (
        "collector/harmonise",
        ["collector.delivery", "collector.summaries", "collector.journal"],
        "a pure step knows its data only",
    ),
    ("collector/journal", ["collector.delivery", "collector.receivers"], "the journal knows nobody"),
    ("collector/summaries", ["collector.delivery", "collector.receivers"], "consumers don't know each other"),
    ("collector/index", ["collector.delivery", "collector.receivers"], "consumers don't know each other"),
    ("collector/queries", ["collector.journal", "collector.delivery"], "questions know the index only"),
]


def _files(place: str) -> Iterator[Path]:
    path = ROOT / place
    yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("place", PURE)
def test_pure_parts_do_no_io(place: str) -> None:
    found = {
        (file.name, module)
        for file in _files(place)
        for module in _imports(file)
        if module.split(".")[0] in IMPURE
    }
    assert found == set()


@pytest.mark.parametrize(
    ("place", "packages", "why"), FORBIDDEN, ids=[f"{row[0]} no {row[1][0]}" for row in FORBIDDEN]
)
def test_imports_run_one_way(place: str, packages: list[str], why: str) -> None:
    found = {
        (file.relative_to(ROOT).as_posix(), module)
        for file in _files(place)
        for module in _imports(file)
        for package in packages
        if _is_below(module, package)
    }
    assert found == set(), why


def test_only_settings_and_the_agents_side_read_the_environment() -> None:
    allowed = {"collector/settings/loading.py", "collector/embedded.py", "instrumentation/handle.py"}
    found = {
        file.relative_to(ROOT).as_posix()
        for package in ("collector", "proxy", "instrumentation")
        for file in _files(package)
        if "os.environ" in file.read_text()
    }
    assert found == allowed


def test_only_the_process_of_the_index_loads_duckdb() -> None:
    """The service itself would be 70 MB larger."""
    found = {
        file.relative_to(ROOT).as_posix()
        for package in ("collector", "proxy", "instrumentation")
        for file in _files(package)
        if "duckdb" in set(_imports(file))
    }
    assert found == {
        "collector/index/process.py",
        "collector/index/store.py",
        "collector/queries/answers.py",
    }
    loading = "import sys, collector.app; sys.exit('duckdb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loading], check=False).returncode == 0


def test_files_keep_to_one_job() -> None:
    long = {
        file.relative_to(ROOT).as_posix(): lines
        for package in ("collector", "proxy", "instrumentation")
        for file in _files(package)
        if (lines := len(file.read_text().splitlines())) > 420
    }
    assert long == {}
    assert len((ROOT / "collector/app.py").read_text().splitlines()) <= 220
