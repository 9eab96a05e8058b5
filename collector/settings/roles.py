"""What one process does of what the service does, and which engines that needs."""

from collections.abc import Sequence
from enum import StrEnum

from collector.settings.engines import Engine, EnginePlace
from collector.settings.retention import CleanupSettings, RetentionSettings


class Role(StrEnum):
    """A part of the service that a process of its own can run; one process runs all of them by default."""

    RECEIVE = "receive"
    """Takes OTLP and stores it in the log."""
    ROUTE = "route"
    """Brings what others write to Kafka into the log."""
    DELIVER = "deliver"
    """Samples traces, and brings spans and log records to MLflow."""
    INDEX = "index"
    """Brings the log into the index."""
    QUERY = "query"
    """Answers the API and the page."""
    PROXY = "proxy"
    """Passes on everything else to MLflow."""


ALL_ROLES = tuple(Role)


def check_roles(
    roles: Sequence[Role], log: EnginePlace, index: EnginePlace | None, *, foreign_topics: Sequence[str]
) -> None:
    """Raises ValueError: these roles can't run on these engines. `index` None: it is switched off."""
    if not roles:
        raise ValueError(f"roles: must name at least one of {', '.join(ALL_ROLES)}")
    _check_embedded(roles, log, index)
    if index is not None and index.engine is Engine.DUCKDB and log.engine is not Engine.SQLITE:
        raise ValueError(
            "index.url: DuckDB reads the journal's SQLite file, and journal.url names another engine: set "
            "index.url to clickhouse://USER@HOST:PORT/DATABASE, or index.enabled = false"
        )
    if set(roles) == {Role.INDEX} and index is None:
        raise ValueError("roles: index has nothing to do while index.enabled = false")
    if set(roles) == {Role.ROUTE} and not foreign_topics:
        raise ValueError("roles: route has nothing to do without kafka.foreign_topics")
    if foreign_topics and log.engine is not Engine.KAFKA:
        raise ValueError("kafka.foreign_topics needs journal.url = kafka://HOST:PORT/PREFIX")


def check_tables(
    roles: Sequence[Role],
    log: EnginePlace,
    alerts: Sequence[object],
    forward: Sequence[object],
    retention: Sequence[RetentionSettings],
    cleanup: CleanupSettings,
) -> None:
    """Raises ValueError: this process can't do what these tables of the settings ask for."""
    if alerts and not {Role.INDEX, Role.QUERY} <= set(roles):
        raise ValueError(
            f"alerts: are evaluated by one process with the roles index and query, and this one has "
            f"{', '.join(roles)}: leave them out of its settings"
        )
    if forward and not log.engine.is_embedded:
        raise ValueError(
            "forward: other backends need the embedded journal, and journal.url names "
            f"{log.engine.product}: have the OpenTelemetry Collector's kafka receiver read the topic "
            f"{log.name}-spans and send it on (docs/scale.md)"
        )
    if len({rule.name for rule in retention}) < len(retention):
        raise ValueError("retention: two rules have the same name")
    if not (log.engine.is_embedded and set(roles) == set(ALL_ROLES)):
        _check_no_retention(log, retention, cleanup)


def _check_no_retention(
    log: EnginePlace, retention: Sequence[RetentionSettings], cleanup: CleanupSettings
) -> None:
    """Raises ValueError: rules or an archive are asked for, and this process can have neither."""
    where = "one of several processes" if log.engine.is_embedded else f"a replica on {log.engine.product}"
    why = (
        "need the embedded journal and all roles in one process, which alone knows what is archived, and "
        f"this is {where}: leave them out of these settings (docs/retention.md)"
    )
    if retention:
        raise ValueError(f"retention: the rules {why}")
    if changed := sorted(cleanup.model_fields_set):
        raise ValueError(f"cleanup.{changed[0]}: the archive and its rules {why}")


def _check_embedded(roles: Sequence[Role], log: EnginePlace, index: EnginePlace | None) -> None:
    missing = [role.value for role in ALL_ROLES if role not in roles]
    if not missing:
        return
    kept = [
        f"{key} names {place.engine.product}"
        for key, place in (("journal.url", log), ("index.url", index))
        if place is not None and place.engine.is_embedded
    ]
    if kept:
        raise ValueError(
            f"roles: {', '.join(roles)} without {', '.join(missing)} needs a log and an index that several "
            f"processes can share, and {' and '.join(kept)}, of which one process has the files: set "
            "journal.url to kafka://… and index.url to clickhouse://… (docs/scale.md), or run all roles"
        )
