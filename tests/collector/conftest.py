"""Fixtures of delivery's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.stage import Stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    await stage.open()
    yield stage
    await stage.close()
