"""An environment for each framework, made with uv or npm, and made again when its requirements change."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FRAMEWORKS = HERE / "frameworks"
ENVIRONMENTS = HERE.parents[2] / ".captures"
INSTALL_SECONDS = 900


class Failed(Exception):
    """An environment can't be made, or a scenario doesn't run; the message ends with what it printed."""


@dataclass(frozen=True)
class Framework:
    """One folder of frameworks/: scenario.py with requirements.txt, or scenario.mjs with package.json."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def is_node(self) -> bool:
        return (self.folder / "scenario.mjs").exists()

    @property
    def requirements(self) -> Path:
        return self.folder / ("package.json" if self.is_node else "requirements.txt")

    @property
    def needs_mlflow(self) -> bool:
        """Its scenario speaks with MLflow's API, as MLflow's own SDK does."""
        return not self.is_node and "set_tracking_uri" in (self.folder / "scenario.py").read_text()

    @property
    def environment(self) -> Path:
        return ENVIRONMENTS / self.name


def frameworks() -> list[Framework]:
    """Those with a scenario, by name."""
    return [Framework(path.parent) for path in sorted(FRAMEWORKS.glob("*/scenario.*"))]


def prepare(framework: Framework) -> None:
    """Make the environment, unless it is there and its requirements are the same."""
    stamp = framework.environment / ".requirements"
    wanted = hashlib.sha256(framework.requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(framework.environment, ignore_errors=True)
    framework.environment.mkdir(parents=True)
    for command in _node(framework) if framework.is_node else _python(framework):
        _run(command, framework.environment)
    stamp.write_text(wanted)


def command(framework: Framework) -> list[str]:
    """How the scenario is started."""
    if not framework.is_node:
        return [str(framework.environment / "bin/python"), str(framework.folder / "scenario.py")]
    # node looks for packages beside the file that imports them
    for file in (HERE / "scene.mjs", framework.folder / "scenario.mjs"):
        shutil.copy(file, framework.environment / file.name)
    own = framework.environment / "node_modules/.bin/node"  # of those that need a newer one
    return [str(own) if own.exists() else "node", str(framework.environment / "scenario.mjs")]


def versions(framework: Framework) -> Mapping[str, str]:
    """Of the packages that the requirements name, as they are installed."""
    if framework.is_node:
        named: dict[str, str] = json.loads(framework.requirements.read_text())["dependencies"]
        return {name: _node_version(framework, name) for name in sorted(named)}
    listed = _run(
        [*_uv(), "pip", "list", "--format", "json", "--python", str(framework.environment / "bin/python")],
        framework.environment,
    )
    installed = {each["name"]: each["version"] for each in json.loads(listed)}
    return {name: installed[name] for name in _named(framework)}


def _named(framework: Framework) -> Iterator[str]:
    for line in framework.requirements.read_text().splitlines():
        if requirement := line.split("#")[0].strip():
            yield requirement.split("==")[0].split("[")[0].strip()


def _node_version(framework: Framework, name: str) -> str:
    package = framework.environment / "node_modules" / name / "package.json"
    return str(json.loads(package.read_text())["version"])


def _python(framework: Framework) -> Iterator[list[str]]:
    yield [*_uv(), "venv", "--quiet", "--allow-existing", "--python", sys.executable, "."]
    yield [*_uv(), "pip", "install", "--quiet", "--python", "bin/python", "-r", str(framework.requirements)]


def _node(framework: Framework) -> Iterator[list[str]]:
    yield ["cp", str(framework.requirements), "package.json"]
    yield ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]


def _uv() -> list[str]:
    return [sys.executable, "-m", "uv"]


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    if done.returncode:
        raise Failed(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout
