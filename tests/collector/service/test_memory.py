"""What the service tells the allocator."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from collector.service import server
from collector.service.server import KEPT_BYTES, OWN_MAPPING_BYTES


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {-1: KEPT_BYTES, -3: OWN_MAPPING_BYTES}),
        ({"MALLOC_ARENA_MAX": "2"}, {}),
    ],
    ids=["kept", "whoever_runs_it_has_chosen"],
)
def test_freed_memory_is_kept_unless_the_environment_says_how(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: dict[int, int]
) -> None:
    told: dict[int, int] = {}
    library = SimpleNamespace(mallopt=told.__setitem__)
    monkeypatch.setattr(server, "environment", lambda: environment)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    server._keep_freed_memory()
    assert told == expected


def test_a_c_library_without_mallopt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = SimpleNamespace()
    monkeypatch.setattr(server, "environment", dict)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: nothing)
    server._keep_freed_memory()
