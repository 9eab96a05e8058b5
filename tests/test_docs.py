"""Every setting, metric, reason, path and command is on its page, and no page says what isn't so."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.main import get_command

from collector.api.own_routes import OWN_OPERATIONS
from collector.cli import commands as cli
from collector.processors.keep import KeepReason
from collector.receivers.http import PATHS
from collector.settings.keep import KeepSettings
from proxy.catalog import Action
from proxy.presets import STANDARD

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings.md", "reference.md", "harmonise.md"])
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text() == _generator().PAGES[name](), "run `python docs/generate.py`"


def test_every_setting_has_a_meaning() -> None:
    assert "| None |" not in (DOCS / "settings.md").read_text()


def _commands(group: typer.Typer, prefix: str = "sidespan") -> set[str]:
    own = {
        f"{prefix} {command.name or command.callback.__name__.replace('_', '-')}"
        for command in group.registered_commands
        if command.callback is not None
    }
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        own |= _commands(inner.typer_instance, f"{prefix} {inner.name}")
    return own


def test_every_command_is_in_the_operations_guide() -> None:
    text = (DOCS / "operations.md").read_text()
    missing = {command for command in _commands(cli.app) if f"`{command}" not in text}
    assert missing == set()


def test_every_path_of_our_own_is_in_the_operations_guide() -> None:
    text = (DOCS / "operations.md").read_text()
    paths = {p for p in PATHS if not p.endswith("/")} | {path for _, path in OWN_OPERATIONS.exact}
    paths |= {operation.route for found in OWN_OPERATIONS.patterns.values() for _, operation in found}
    paths -= {"/-/static/{name:path}", "/-/dead-letters/{id}"}
    assert len(paths) > 15
    assert {path for path in paths if f"`{path}`" not in text} == set()


def test_what_the_proxy_denies_is_in_its_guide() -> None:
    text = (DOCS / "proxy.md").read_text()
    denied = {resource for resource, allowed in STANDARD.items() if Action.WRITE not in allowed}
    assert {resource for resource in denied if f"`{resource}`" not in text} == set()


def test_sampling_is_described_whole() -> None:
    text = (DOCS / "sampling.md").read_text()
    names = {*KeepSettings.model_fields, *(reason.value for reason in KeepReason)}
    assert {name for name in names if f"`{name}`" not in text and f'{name} = "keep"' not in text} == set()


def test_links_between_pages_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_and_settings_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    metrics = set(re.findall(r"`(sidespan_\w+)`", (DOCS / "reference.md").read_text()))
    assert {name for name in re.findall(r"\bsidespan_\w+", text) if name not in metrics} == set()
    settings = set(re.findall(r"^\| `([\w.]+)`", (DOCS / "settings.md").read_text(), re.MULTILINE))
    # of mlflow. there are attributes of spans too, and clients have names of their own
    sections = {name.split(".")[0] for name in settings if "." in name} - {"mlflow"}
    named = {name for name in re.findall(r"`(\w+(?:\.\w+)+)`", text) if name.split(".")[0] in sections}
    assert {name for name in named - settings if not name.startswith("policy.clients.")} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_a_page_names_can_be_given(page: Path) -> None:
    text = page.read_text()
    given = re.findall(r"`(sidespan [^`\n]+)`", text) + re.findall(r"^ {4}(sidespan .+)$", text, re.MULTILINE)
    for line in given:
        command: Any = get_command(cli.app)
        words = shlex.split(line, comments=True)[1:]
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        words = words[: words.index("--")] if "--" in words else words
        options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= options | {"--help"}, line
