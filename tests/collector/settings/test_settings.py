"""Settings: which source wins, and what a mistake is told."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from collector.model.errors import Misconfigured
from collector.settings import Settings, known_keys, load


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
        ({"SIDESPAN_MLFLOW__USERNAME": "me"}, ["username and a password"]),
        ({"SIDESPAN_ROUTING__SERVICES": "{oops"}, ["SIDESPAN_ROUTING__SERVICES", "not a TOML value"]),
        ({"SIDESPAN_SERVER__HOST": "0.0.0.0"}, ["0.0.0.0", 'auth.mode = "none"']),
        ({"SIDESPAN_RECEIVER__MAX_IN_FLIGHT_BYTES": "5"}, ["must be at least twice max_body_bytes"]),
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


def test_each_source_beats_the_next_weaker_one(tmp_path: Path) -> None:
    file = tmp_path / "sidespan.toml"
    file.write_text("[delivery]\nmax_lanes = 2\n")
    environment = {"SIDESPAN_DELIVERY__MAX_LANES": "3"}
    flags = {"delivery.max_lanes": 4}
    assert load(environment={}).delivery.max_lanes == Settings().delivery.max_lanes
    assert load(environment={}, file=file).delivery.max_lanes == 2
    assert load(environment=environment, file=file).delivery.max_lanes == 3
    assert load(environment=environment, file=file, flags=flags).delivery.max_lanes == 4


def test_a_section_may_come_from_several_sources(tmp_path: Path) -> None:
    file = tmp_path / "sidespan.toml"
    file.write_text("[mlflow]\nurl = 'http://a:1'\nrequest_timeout_seconds = 5\n")
    loaded = load(
        file=file,
        environment={"SIDESPAN_MLFLOW__URL": "http://b:2/", "SIDESPAN_MLFLOW__USERNAME": "me"},
        flags={"mlflow.password": "pw"},
    )
    assert (loaded.mlflow.url, loaded.mlflow.request_timeout_seconds) == ("http://b:2", 5.0)
    assert (loaded.mlflow.username, loaded.mlflow.password) == ("me", "pw")


def test_the_file_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environment={}).server.port == Settings().server.port
    (tmp_path / "sidespan.toml").write_text("[server]\nport = 7\n")
    assert load(environment={}).server.port == 7


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"not-there\.toml"):
        load(environment={}, file=tmp_path / "not-there.toml")


def _default(key: str) -> Any:
    value: Any = Settings()
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _as_text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(value)
        case dict():
            return "{" + ", ".join(f"{name} = {text!r}" for name, text in value.items()) + "}"
        case _:
            return str(value)


@pytest.mark.parametrize("key", [key for key in known_keys() if _default(key) is not None])
def test_every_setting_can_be_given_in_the_environment(key: str) -> None:
    name = "SIDESPAN_" + key.upper().replace(".", "__")
    assert load(environment={name: _as_text(_default(key))}) == Settings()


def test_variables_of_the_agents_side_are_not_ours() -> None:
    environment = {"SIDESPAN_ENDPOINT": "x", "SIDESPAN_EXPERIMENT": "y", "SIDESPAN_URL": "z", "PATH": "/"}
    assert load(environment=environment) == Settings()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[server]\nport = 'abc'\n", ["sidespan.toml", "server.port = 'abc'", "valid integer"]),
        ("[server]\nport = -1\n", ["sidespan.toml", "server.port = -1", "greater than or equal to 0"]),
        ("[journal]\nmax_bytes = 5\n", ["journal.max_bytes = 5", "greater than or equal to 1048576"]),
        ("[routing.services]\nweb = 7\n", ["sidespan.toml", "routing.services", "valid string"]),
        ("[delivery]\nmax_lane = 1\n", ["sidespan.toml", "'delivery.max_lane'", "did you mean", "max_lanes"]),
        ("port = 1\n", ["sidespan.toml", "unknown setting 'port'"]),
        ("[auth]\nmode = 'open'\n", ["auth.mode = 'open'", "'loopback', 'none' or 'clients'"]),
        ("server = 5\n", ["sidespan.toml", "unknown setting 'server'", "server.port"]),
    ],
    ids=["type", "low", "bound", "table", "suggestion", "no_section", "choice", "section_as_value"],
)
def test_a_mistake_in_the_file_names_key_value_and_file(
    tmp_path: Path, content: str, said: list[str]
) -> None:
    file = tmp_path / "sidespan.toml"
    file.write_text(content)
    with pytest.raises(Misconfigured) as raised:
        load(environment={}, file=file)
    assert all(part in str(raised.value) for part in said), str(raised.value)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"server.port": "abc"}, ["flag for server.port", "'abc'"]),
        ({"server.prot": 1}, ["flag for server.prot", "did you mean server.port"]),
    ],
    ids=["value", "key"],
)
def test_a_mistake_in_a_flag_names_the_flag(flags: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(Misconfigured) as raised:
        load(environment={}, flags=flags)
    assert all(part in str(raised.value) for part in said), str(raised.value)


def test_all_mistakes_are_told_at_once() -> None:
    environment = {"SIDESPAN_SERVER__PORT": "x", "SIDESPAN_DELIVERY__MAX_LANES": "0"}
    with pytest.raises(Misconfigured) as raised:
        load(environment=environment)
    assert "server.port" in str(raised.value)
    assert "delivery.max_lanes" in str(raised.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "10.0.0.1", "sidespan.example.com", ""])
def test_an_address_that_others_reach_needs_a_word_on_who_may_connect(host: str) -> None:
    with pytest.raises(Misconfigured, match="server.host"):
        load(environment={"SIDESPAN_SERVER__HOST": host})
    assert load(environment={"SIDESPAN_SERVER__HOST": host, "SIDESPAN_AUTH__MODE": "none"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_an_address_of_this_machine_needs_none(host: str) -> None:
    assert load(environment={"SIDESPAN_SERVER__HOST": host}).server.host == host


SECRET = "hunter2"


@pytest.mark.parametrize(
    "values",
    [
        {"mlflow.password": SECRET},
        {"mlflow.token": SECRET, "mlflow.username": "me"},
        {"mlflow.token": SECRET, "mlflow.password": SECRET, "mlflow.username": "me"},
        {"mlflow.token": [SECRET]},
        {"mlflow.password": {"a": SECRET}, "mlflow.username": "me"},
        {"mlflow.token": SECRET, "server.port": "x"},
        {"mlflow.url": f"http://me:{SECRET}@host"},
    ],
    ids=["no_user", "two_kinds", "three", "list", "table", "elsewhere", "in_the_url"],
)
def test_no_mistake_shows_a_secret(values: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured) as raised:
        load(environment={}, flags=values)
    assert SECRET not in str(raised.value)
    assert SECRET not in repr(raised.value)


def test_settings_show_no_secret_of_theirs() -> None:
    for key in ("token", "password"):
        extra = {"mlflow.username": "me"} if key == "password" else {}
        loaded = load(environment={}, flags={f"mlflow.{key}": SECRET, **extra})
        assert SECRET not in repr(loaded)
        assert SECRET not in str(loaded)
        assert getattr(loaded.mlflow, key) == SECRET


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.server.port = 1
