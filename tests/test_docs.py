"""Every setting, metric, reason, path and command is on its page, and no page says what isn't so."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import typer

from collector.api.own_routes import OWN_OPERATIONS
from collector.cli import commands as cli
from collector.processors.keep import KeepReason
from collector.receivers.http import PATHS
from collector.settings.keep import KeepSettings
from proxy.catalog import Action
from proxy.presets import STANDARD

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


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
