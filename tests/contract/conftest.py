"""A journal of each form, open."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from collector.journal import Journal
from collector.settings import JournalSettings
from tests.contract.forms import FORMS, LOGS, Opened, on_kafka

KAFKA = "kafka"


@pytest.fixture
def settings() -> JournalSettings:
    """A test that needs others overrides this fixture."""
    return JournalSettings(min_free_disk_bytes=0)


@pytest.fixture
def consumers() -> tuple[str, ...]:
    """A test that needs others overrides this fixture."""
    return ("delivery",)


@pytest.fixture
def followers() -> tuple[str, ...]:
    """A test that needs some overrides this fixture."""
    return ()


@pytest.fixture
def log_consumers() -> tuple[str, ...]:
    """A test that needs others overrides this fixture."""
    return (LOGS,)


@pytest.fixture(
    params=[
        *(pytest.param(name, id=name) for name in FORMS),
        pytest.param(KAFKA, id=KAFKA, marks=pytest.mark.scale),
    ]
)
async def opened(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    settings: JournalSettings,
    consumers: tuple[str, ...],
    followers: tuple[str, ...],
    log_consumers: tuple[str, ...],
) -> AsyncIterator[Opened]:
    form = FORMS.get(request.param)
    if form is None:
        form = partial(on_kafka, hosts=request.getfixturevalue("one_broker").hosts)
    async with form(tmp_path, settings, consumers, followers, log_consumers) as opened:
        yield opened


@pytest.fixture
def journal(opened: Opened) -> Journal:
    return opened.journal
