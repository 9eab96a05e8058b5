"""The import rules: data flows one way, and the pure parts stay pure."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
IMPURE = {"asyncio", "aiohttp", "sqlite3", "starlette", "logging", "time", "random", "os", "socket"}

PURE = [
    "collector/alerts/channels/outcomes.py",
    "collector/alerts/definition.py",
    "collector/alerts/forms.py",
    "collector/alerts/links.py",
    "collector/alerts/measurements.py",
    "collector/alerts/notices.py",
    "collector/alerts/questions.py",
    "collector/alerts/replay.py",
    "collector/alerts/states.py",
    "collector/alerts/trouble.py",
    "collector/alerts/watch.py",
    "collector/answers/chat",
    "collector/answers/content.py",
    "collector/answers/conversation.py",
    "collector/answers/encoding.py",
    "collector/answers/errors.py",
    "collector/answers/explain.py",
    "collector/answers/rights.py",
    "collector/answers/span_detail.py",
    "collector/otlp",
    "collector/spans",
    "collector/harmonise",
    "collector/processors",
    "collector/receivers/prepare.py",
    "collector/receivers/routing.py",
    "collector/model/addresses.py",
    "collector/model/batch.py",
    "collector/model/connected.py",
    "collector/model/durations.py",
    "collector/model/errors.py",
    "collector/model/parameters.py",
    "collector/model/faults.py",
    "collector/model/experiment.py",
    "collector/delivery/backoff.py",
    "collector/delivery/bisect.py",
    "collector/delivery/group.py",
    "collector/delivery/mlflow/answers.py",
    "collector/delivery/mlflow/forward.py",
    "collector/delivery/otlp/answers.py",
    "collector/delivery/otlp/copy.py",
    "collector/delivery/otlp/selection.py",
    "collector/delivery/verdicts.py",
    "collector/mcp/bounds.py",
    "collector/mcp/envelope.py",
    "collector/mcp/schemas.py",
    "collector/mcp/shapes.py",
    "collector/index/clickhouse/dialect.py",
    "collector/index/clickhouse/errors.py",
    "collector/index/clickhouse/rows.py",
    "collector/index/clickhouse/schema.py",
    "collector/index/duckdb/dialect.py",
    "collector/index/duckdb/messages.py",
    "collector/index/duckdb/schema.py",
    "collector/index/protocol.py",
    "collector/index/rows/columns.py",
    "collector/index/rows/documents.py",
    "collector/index/rows/one_trace.py",
    "collector/index/rows/rows.py",
    "collector/index/queries",
    "collector/index/sql",
    "collector/live/backlog.py",
    "collector/live/frames.py",
    "collector/retention/frames.py",
    "collector/retention/rules.py",
    "proxy/catalog.py",
    "proxy/denials.py",
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

# the folders of collector/, top down: each may import those below it, and itself
FOLDERS = (
    "cli",
    "service",
    "api",
    "alerts",
    "mcp",
    "live",
    "answers",
    "retention",
    "index",
    "mirror",
    "sampling",
    "delivery",
    "journal",
    "receivers",
    "processors",
    "harmonise",
    "spans",
    "mlflow",
    "otlp",
    "telemetry",
    "settings",
    "model",
    "files",
)

# arrows that the order of the folders would allow, and what speaks against them
FORBIDDEN = [
    ("proxy", ["collector", "instrumentation", "mlflow"], "the proxy knows nothing of the collector"),
    ("instrumentation", ["collector", "proxy", "mlflow"], "an agent process carries no service"),
    ("collector", ["mlflow", "instrumentation"], "the service talks HTTP to MLflow"),
    ("collector/delivery", ["collector.receivers"], "a consumer knows the journal and its target"),
    *(
        (
            f"collector/delivery/{name}.py",
            ["collector.mlflow", *(f"collector.delivery.{target}" for target in ("mlflow", "logs", "otlp"))],
            "how a target is reached is behind WindowTarget",
        )
        for name in ("worker", "settle", "bisect", "group", "backoff", "verdicts")
    ),
    ("collector/sampling", ["collector.delivery", "collector.receivers"], "consumers don't know each other"),
    (
        "collector/index",
        ["collector.delivery", "collector.sampling", "collector.receivers"],
        "consumers don't know each other",
    ),
    ("collector/journal", ["collector.receivers"], "the journal knows nobody"),
    (
        "collector/index/queries",
        ["collector.journal", "collector.index.sql", "collector.index.duckdb"],
        "questions know no engine",
    ),
    (
        "collector/index/sql",
        ["collector.journal", "collector.index.duckdb", "collector.index.clickhouse"],
        "one SQL for several engines",
    ),
]


def _files(place: str) -> Iterator[Path]:
    path = ROOT / place
    yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


@cache
def _imports(file: Path) -> Sequence[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


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


def test_folders_import_downwards_only() -> None:
    rank = {folder: place for place, folder in enumerate(FOLDERS)}
    upwards = {
        (file.relative_to(ROOT).as_posix(), module)
        for folder in FOLDERS
        for file in _files(f"collector/{folder}")
        for module in _imports(file)
        if module.startswith("collector.") and rank[module.split(".")[1]] < rank[folder]
    }
    assert upwards == set()


def test_answers_know_no_http_framework() -> None:
    """Neither they nor what they are made of: another process may hand them out."""
    reached = dict.fromkeys(_files("collector/answers"), "answers")
    waiting = list(reached)
    while waiting:
        file = waiting.pop()
        for imported in {path for module in _imports(file) if (path := _file_of(module))} - reached.keys():
            reached[imported] = file.relative_to(ROOT).as_posix()
            waiting.append(imported)
    assert len(reached) > 50
    found = {
        f"{file.relative_to(ROOT).as_posix()}, imported by {importer}"
        for file, importer in reached.items()
        for module in _imports(file)
        if module.split(".")[0] in ("starlette", "uvicorn")
    }
    assert found == set()


def _file_of(module: str) -> Path | None:
    """The file of one of the collector's modules."""
    if not _is_below(module, "collector"):
        return None
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def test_the_root_of_the_collector_holds_folders_only() -> None:
    listed = {path.name for path in (ROOT / "collector").iterdir() if path.name != "__pycache__"}
    assert listed == {"__init__.py", "__main__.py", *FOLDERS}


def test_one_module_names_mlflows_paths() -> None:
    naming = {
        file.relative_to(ROOT).as_posix()
        for file in _files("collector")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.match(r"/(ajax-)?api/[23]\.0/", node.value)
    }
    assert naming == {"collector/mlflow/rest.py"}


def test_only_settings_and_the_agents_side_read_the_environment() -> None:
    allowed = {
        "collector/settings/loading.py",
        "collector/service/embedded.py",
        "collector/cli/plugins.py",  # before anything is imported that reads settings
        "instrumentation/handle.py",
    }
    found = {
        file.relative_to(ROOT).as_posix()
        for package in ("collector", "proxy", "instrumentation")
        for file in _files(package)
        if "os.environ" in file.read_text()
    }
    assert found == allowed


def test_only_its_form_opens_the_journals_file() -> None:
    """What follows the log from another process reads through `reader.py`."""
    doors = {"journal", "reader", "lock", "opening"}
    own_files = {"collector/alerts/store.py", "collector/retention/catalogue.py"}
    # MLflow's own database
    own_files |= {"collector/mirror/database.py", "collector/mirror/watched.py"}
    own_files |= {"collector/retention/spans_file.py"}
    found = {
        (file.relative_to(ROOT).as_posix(), module)
        for file in _files("collector")
        if "collector/journal/sqlite" not in file.as_posix()
        and file.relative_to(ROOT).as_posix() not in own_files
        for module in _imports(file)
        if module == "sqlite3"
        or (
            _is_below(module, "collector.journal.sqlite")
            and not doors & set(module.removeprefix("collector.journal.sqlite.").split("."))
        )
    }
    assert found == set()


def test_questions_to_the_index_hold_no_sql() -> None:
    words = re.compile(r"\b(SELECT|FROM|WHERE|CASE|GROUP BY|ORDER BY|count\(|sum\(|avg\()")
    found = {
        (file.name, node.value)
        for file in _files("collector/index/queries")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and words.search(node.value)
    }
    assert found == set()


def test_only_who_opens_the_index_knows_its_engine() -> None:
    """Everybody else uses the protocol."""
    found = {
        module
        for file in _files("collector")
        if not file.is_relative_to(ROOT / "collector/index/duckdb")
        for module in _imports(file)
        if _is_below(module, "collector.index.duckdb")
    }
    assert found == {"collector.index.duckdb.client"}


def test_only_who_opens_the_index_on_clickhouse_knows_it() -> None:
    """And the client's package is loaded by one module alone, which is imported when it is needed."""
    found = {
        module
        for file in _files("collector")
        if not file.is_relative_to(ROOT / "collector/index/clickhouse")
        for module in _imports(file)
        if _is_below(module, "collector.index.clickhouse")
    }
    assert found <= {"collector.index.clickhouse"}
    loading = {
        file.relative_to(ROOT).as_posix()
        for file in _files("collector")
        if any(module.split(".")[0] == "clickhouse_connect" for module in _imports(file))
    }
    assert loading == {"collector/index/clickhouse/server.py"}
    imported = "import sys, collector.index.clickhouse; sys.exit('clickhouse_connect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", imported], check=False).returncode == 0


def test_only_the_process_of_the_index_loads_duckdb() -> None:
    """The service itself would be 70 MB larger."""
    found = {
        file.relative_to(ROOT).as_posix()
        for package in ("collector", "proxy", "instrumentation")
        for file in _files(package)
        if "duckdb" in set(_imports(file))
    }
    assert found == {
        "collector/index/duckdb/engine.py",
        "collector/index/duckdb/store.py",
        "collector/index/duckdb/changes.py",
        "collector/index/duckdb/mirror.py",
        "collector/index/duckdb/lookups.py",
        "collector/index/duckdb/scores.py",
    }
    loaded = _loaded_by("collector.service.app")
    assert "duckdb" not in loaded


def test_the_process_of_the_index_starts_without_settings_and_http_clients() -> None:
    """It gets its arguments from the service; with these it would start half as fast."""
    loaded = _loaded_by("collector.index.duckdb.process")
    assert loaded.isdisjoint({"collector.settings", "proxy", "aiohttp"})


def test_the_clients_of_engines_that_are_extras_are_loaded_only_where_a_url_names_them() -> None:
    loaded = _loaded_by("collector.service.app")
    assert loaded.isdisjoint({"confluent_kafka", "clickhouse_connect", "collector.journal.kafka"})


@cache
def _loaded_by(module: str) -> frozenset[str]:
    """The modules that importing one brings along."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return frozenset(done.stdout.split())


def test_nobody_loads_the_sdk_of_the_model_context_protocol_before_it_is_used() -> None:
    """It is an extra, takes a second to load, and 30 MB."""
    for module in ("collector.service.app", "collector.cli.commands"):
        assert _loaded_by(module).isdisjoint({"mcp", "mcp_types"}), module


# what is longer than it should be, until it is cut
def test_files_keep_to_one_job() -> None:
    long = {name for name, text in _sources() if len(text.splitlines()) > 400}
    assert long == set()
    assert len((ROOT / "collector/service/app.py").read_text().splitlines()) < 150


def test_functions_are_short() -> None:
    lengths = {
        f"{name} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, text in _sources()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name for name, lines in lengths.items() if lines > 60} == set()
    ordered = sorted(lengths.values())
    assert median(ordered) <= 7
    assert ordered[len(ordered) * 9 // 10] <= 25


def test_a_class_name_stands_for_one_thing() -> None:
    homes = defaultdict(set)
    for name, text in _sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].add(f"{name}:{node.lineno}")
    shared = {name: found for name, found in homes.items() if len(found) > 1}
    assert shared == {}


def _sources() -> Iterator[tuple[str, str]]:
    for package in ("collector", "proxy", "instrumentation"):
        for file in _files(package):
            yield file.relative_to(ROOT).as_posix(), file.read_text()


def test_the_pages_scripts_are_checked_and_their_lines_are_short() -> None:
    """`make lint-page` checks what begins with @ts-check; prettier leaves long texts alone."""
    scripts = _page_files("*.js")
    assert scripts
    for script in scripts:
        lines = script.read_text().splitlines()
        assert lines[0] == "// @ts-check", script.name
        assert max(map(len, lines)) < 120, script.name


def _page_files(pattern: str) -> list[Path]:
    return sorted((ROOT / "collector/api/page").glob(pattern))
