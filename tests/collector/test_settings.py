"""Settings: which source wins, and what a mistake is told."""

from pathlib import Path

import pytest

from collector.errors import Misconfigured
from collector.settings import Settings, load


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "sidespan.toml"
    file.write_text('[server]\nport = 1\nhost = "127.0.0.2"\nshutdown_seconds = 3\n')
    settings = load(
        flags={"server.port": 3},
        environment={"SIDESPAN_SERVER__PORT": "2", "SIDESPAN_SERVER__HOST": "127.0.0.3"},
        file=file,
    )
    assert settings.server.port == 3
    assert settings.server.host == "127.0.0.3"
    assert settings.server.shutdown_seconds == 3.0
    assert settings.delivery == Settings().delivery


def test_lists_and_tables_in_the_environment() -> None:
    settings = load(
        environment={
            "SIDESPAN_SERVER__ALLOWED_HOSTS": "a.example, b.example",
            "SIDESPAN_ROUTING__SERVICES": '{ web = "7", "my agent" = "Agents" }',
        }
    )
    assert settings.server.allowed_hosts == ("a.example", "b.example")
    assert settings.routing.services == {"web": "7", "my agent": "Agents"}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"SIDESPAN_SERVER__PORT": "70000"},
            ["SIDESPAN_SERVER__PORT", "server.port", "'70000'", "less than or equal to 65535"],
        ),
        ({"SIDESPAN_SERVER__PROT": "1"}, ["SIDESPAN_SERVER__PROT", "did you mean server.port"]),
        ({"SIDESPAN_NOTHING__LIKE_IT": "1"}, ["SIDESPAN_NOTHING__LIKE_IT", "docs/settings.md"]),
        ({"SIDESPAN_DELIVERY__VERIFY": "maybe"}, ["delivery.verify", "'maybe'", "'off', 'sample' or 'all'"]),
        ({"SIDESPAN_MLFLOW__URL": "localhost:5000"}, ["mlflow.url", "http:// or https://"]),
        ({"SIDESPAN_MLFLOW__URL": "http://me:pw@host"}, ["must not hold a user name"]),
        ({"SIDESPAN_MLFLOW__USERNAME": "me"}, ["username needs password"]),
        ({"SIDESPAN_ROUTING__SERVICES": "{oops"}, ["SIDESPAN_ROUTING__SERVICES", "not a TOML value"]),
        ({"SIDESPAN_SERVER__HOST": "0.0.0.0"}, ["0.0.0.0", 'auth.mode = "none"']),
        ({"SIDESPAN_RECEIVER__MAX_IN_FLIGHT_BYTES": "5"}, ["must hold one request twice"]),
    ],
    ids=[
        "out_of_range",
        "unknown_key_is_suggested",
        "unknown_section",
        "not_a_choice",
        "no_url",
        "secret_in_url",
        "half_a_credential",
        "not_toml",
        "open_to_the_world",
        "one_request_must_fit",
    ],
)
def test_a_mistake_names_key_value_origin_and_way_out(environment: dict[str, str], said: list[str]) -> None:
    with pytest.raises(Misconfigured) as raised:
        load(environment=environment)
    assert all(part in str(raised.value) for part in said), str(raised.value)


def test_a_mistake_in_the_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[jurnal]\nmax_bytes = 1\n")
    with pytest.raises(Misconfigured, match=r"mine\.toml: unknown setting 'jurnal.max_bytes'"):
        load(environment={}, file=file)
    file.write_text("[journal\n")
    with pytest.raises(Misconfigured, match=r"mine\.toml: can't be read as TOML"):
        load(environment={}, file=file)


def test_another_address_is_allowed_where_it_is_written_out() -> None:
    environment = {"SIDESPAN_SERVER__HOST": "0.0.0.0", "SIDESPAN_AUTH__MODE": "none"}
    assert load(environment=environment).server.host == "0.0.0.0"


def test_secrets_are_in_no_message_and_no_repr() -> None:
    environment = {"SIDESPAN_MLFLOW__TOKEN": "s3cret", "SIDESPAN_MLFLOW__PASSWORD": "hunter2"}
    with pytest.raises(Misconfigured) as raised:
        load(environment=environment)
    assert "s3cret" not in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert "s3cret" not in repr(load(environment={"SIDESPAN_MLFLOW__TOKEN": "s3cret"}))
