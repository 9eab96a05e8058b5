"""Engines by URL, roles by name: what fits together, and what is refused with its reason."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from collector.model.errors import Misconfigured
from collector.settings import ALL_ROLES, ClickhouseSettings, Engine, KafkaSettings, Role, Settings, load

KAFKA = {"SIDESPAN_JOURNAL__URL": "kafka://b1:9092,b2/sidespan"}
SHARED = KAFKA | {"SIDESPAN_INDEX__URL": "clickhouse://writer@click/sidespan"}


def test_without_urls_one_process_does_everything_with_files_in_the_data_folder() -> None:
    settings = load(environment={"SIDESPAN_DATA_DIR": "here"})
    index = settings.index_place
    assert settings.roles == ALL_ROLES
    assert (settings.log_place.engine, settings.log_place.folder) == (Engine.SQLITE, Path("here"))
    assert index is not None
    assert (index.engine, index.folder) == (Engine.DUCKDB, Path("here/index"))


def test_a_url_names_servers_with_their_ports() -> None:
    settings = load(environment=SHARED)
    log, index = settings.log_place, settings.index_place
    assert (log.engine, log.hosts, log.name) == (Engine.KAFKA, ("b1:9092", "b2:9092"), "sidespan")
    assert index is not None
    assert (index.engine, index.hosts, index.user, index.name) == (
        Engine.CLICKHOUSE,
        ("click:8123",),
        "writer",
        "sidespan",
    )
    assert "writer" not in index.shown


@pytest.mark.parametrize(
    ("url", "folder"),
    [("sqlite:///a/b", "a/b"), ("sqlite:////var/lib/a%20b", "/var/lib/a b")],
    ids=["relative", "absolute"],
)
def test_an_embedded_engines_url_names_its_folder(url: str, folder: str) -> None:
    assert load(environment={"SIDESPAN_JOURNAL__URL": url}).log_place.folder == Path(folder)


def test_roles_are_a_list() -> None:
    settings = load(environment=SHARED | {"SIDESPAN_ROLES": "receive, query"})
    assert settings.roles == (Role.RECEIVE, Role.QUERY)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SIDESPAN_ROLES": "receive"}, ["receive without route", "SQLite", "DuckDB", "kafka://"]),
        (
            KAFKA | {"SIDESPAN_INDEX__URL": "duckdb:///x", "SIDESPAN_ROLES": "deliver"},
            ["index.url names DuckDB"],
        ),
        (KAFKA, ["index.url", "DuckDB reads the journal's SQLite file", "index.enabled = false"]),
        ({"SIDESPAN_ROLES": "[]"}, ["at least one of receive"]),
        ({"SIDESPAN_ROLES": "collect"}, ["roles", "'receive'"]),
        (SHARED | {"SIDESPAN_ROLES": "route"}, ["without kafka.foreign_topics"]),
        (
            KAFKA | {"SIDESPAN_INDEX__ENABLED": "false", "SIDESPAN_ROLES": "index"},
            ["index.enabled = false"],
        ),
        ({"SIDESPAN_KAFKA__FOREIGN_TOPICS": "otlp_spans"}, ["needs journal.url = kafka://"]),
        ({"SIDESPAN_JOURNAL__URL": "redis://h/x"}, ["sqlite:// or kafka://"]),
        ({"SIDESPAN_JOURNAL__URL": "kafka://b1"}, ["must end with /NAME"]),
        ({"SIDESPAN_JOURNAL__URL": "kafka://b1/x?tls=1"}, ["must not hold a query"]),
        ({"SIDESPAN_JOURNAL__URL": "kafka://me@b1/x"}, ["kafka.username"]),
        ({"SIDESPAN_INDEX__URL": "clickhouse://h:x/y"}, ["index.url"]),
        ({"SIDESPAN_INDEX__URL": "clickhouse://h/a-b"}, ["must not hold a -"]),
        (SHARED | {"SIDESPAN_SERVER__TAKEOVER": "true"}, ["server.takeover", "start the new replica"]),
        ({"SIDESPAN_KAFKA__USERNAME": "me"}, ["username and a password"]),
        ({"SIDESPAN_KAFKA__CA_FILE": "ca.pem"}, ["tls = true"]),
        ({"SIDESPAN_KAFKA__MIN_INSYNC_REPLICAS": "4"}, ["more than replicas"]),
        ({"SIDESPAN_CLICKHOUSE__CA_FILE": "ca.pem"}, ["tls = true"]),
    ],
    ids=[
        "embedded_engines_have_one_process",
        "an_embedded_index_too",
        "duckdb_reads_no_kafka",
        "no_role",
        "unknown_role",
        "nothing_to_route",
        "nothing_to_index",
        "foreign_topics_need_kafka",
        "unknown_engine",
        "no_prefix",
        "settings_are_no_query",
        "user_is_a_setting",
        "port_is_a_number",
        "database_needs_no_quotes",
        "nothing_to_hand_over",
        "half_a_credential",
        "certificates_without_tls",
        "more_copies_than_there_are",
        "clickhouse_certificates_without_tls",
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(environment: dict[str, str], said: list[str]) -> None:
    with pytest.raises(Misconfigured) as raised:
        load(environment=environment)
    assert all(part in str(raised.value) for part in said), str(raised.value)


@pytest.mark.parametrize("key", ["JOURNAL", "INDEX"])
def test_a_password_in_a_url_is_refused_and_not_repeated(key: str) -> None:
    scheme = "kafka" if key == "JOURNAL" else "clickhouse"
    with pytest.raises(Misconfigured, match="must not hold a password") as raised:
        load(environment={f"SIDESPAN_{key}__URL": f"{scheme}://me:hunter2@h/x"})
    assert "hunter2" not in str(raised.value)


def test_passwords_come_from_a_file_or_the_environment_and_are_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    from_file = KafkaSettings(username="me", password_file=file)
    given = load(environment={"SIDESPAN_CLICKHOUSE__PASSWORD": "hunter2"})
    assert from_file.read_password() == given.clickhouse.read_password() == "hunter2"
    assert "hunter2" not in repr(given) + repr(from_file)
    with pytest.raises(Misconfigured, match="kafka.password_file"):
        KafkaSettings(username="me", password_file=tmp_path / "none").read_password()


def test_each_engine_has_its_own_settings() -> None:
    assert (Settings().kafka, Settings().clickhouse) == (KafkaSettings(), ClickhouseSettings())


KAFKA_AND_CLICKHOUSE = {
    "journal": {"url": "kafka://127.0.0.1:9092/sidespan"},
    "index": {"url": "clickhouse://127.0.0.1:8123/sidespan"},
}


def test_alerts_are_for_a_process_that_indexes_and_answers() -> None:
    alert = {"name": "slow", "metric": "count", "above": 10}
    with pytest.raises(
        ValidationError, match=r"one process with the roles index and query, and this one has query"
    ):
        Settings.model_validate({**KAFKA_AND_CLICKHOUSE, "roles": ["query"], "alerts": [alert]})
    Settings.model_validate({**KAFKA_AND_CLICKHOUSE, "roles": ["index", "query"], "alerts": [alert]})


def test_other_backends_need_the_embedded_journal() -> None:
    target = {"name": "tee", "url": "http://tee.example.com:4318"}
    with pytest.raises(ValidationError, match=r"read the topic sidespan-spans and send it on"):
        Settings.model_validate({**KAFKA_AND_CLICKHOUSE, "forward": [target]})
    Settings.model_validate({"forward": [target]})


RULE = {"name": "old", "older_than_seconds": 1}


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        pytest.param({"retention": [RULE]}, "retention:", id="rules"),
        pytest.param({"cleanup": {"archive_url": "s3://b/p"}}, "cleanup.archive_url:", id="an_archive"),
        pytest.param({"cleanup": {"late_spans": "reopen"}}, "cleanup.late_spans:", id="how_rules_run"),
    ],
)
def test_a_replica_has_no_retention(asked: dict[str, Any], key: str) -> None:
    with pytest.raises(
        ValueError, match=f"{key} .* need the embedded journal .* a replica on Kafka"
    ) as found:
        Settings.model_validate({**KAFKA_AND_CLICKHOUSE, **asked})
    assert "docs/retention.md" in str(found.value)
    Settings.model_validate(asked)
