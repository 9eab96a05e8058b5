"""The filters that `sidespan summary traces`, `sessions` and `stats` share."""

import pytest
from typer.testing import CliRunner

from collector.cli.commands import app
from collector.cli.filters import read_filters
from collector.model.errors import Misconfigured

COMMANDS = ("traces", "sessions", "stats")
FILTERS = {
    "experiment",
    "since",
    "until",
    "status",
    "service",
    "agent",
    "model",
    "tool",
    "session",
    "user",
} | {"score"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_on_many_traces_has_every_filter(command: str) -> None:
    text = CliRunner().invoke(app, ["summary", command, "--help"]).output
    assert {name for name in {*FILTERS, "where"} if f"--{name} " not in text} == set()
    assert "--filters" not in text


@pytest.mark.parametrize(
    ("given", "query"),
    [
        ({}, {}),
        ({"experiment": "12"}, {"experiment_id": ["12"]}),
        ({"experiment": "checkout"}, {"experiment_name": ["checkout"]}),
        ({"agent": "a*", "since": "-1h"}, {"agent": ["a*"], "since": ["-1h"]}),
        ({"where": ["tag=a", "tag=b=c"]}, {"tag": ["a", "b=c"]}),
        ({"user": "ann", "where": ["user=bob"]}, {"user": ["ann", "bob"]}),
        ({"score": ["a<0.5", "b=pass"]}, {"score": ["a<0.5", "b=pass"]}),
    ],
    ids=[
        "none",
        "experiment_id",
        "experiment_name",
        "named",
        "repeated_where",
        "where_adds_to_a_filter",
        "scores",
    ],
)
def test_filters_become_parameters_of_the_api(given: dict[str, object], query: dict[str, list[str]]) -> None:
    assert read_filters(**given) == query  # type: ignore[arg-type]


def test_a_condition_without_a_value_is_refused() -> None:
    with pytest.raises(Misconfigured, match="must be name=value"):
        read_filters(where=["min_cost_usd"])


@pytest.mark.parametrize("command", [[], *(["summary", name] for name in COMMANDS)], ids=str)
def test_help_fits_into_80_columns(command: list[str]) -> None:
    text = CliRunner().invoke(app, [*command, "--help"], terminal_width=80).output
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("Commands:")[2]
