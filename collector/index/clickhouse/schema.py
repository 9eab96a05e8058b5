"""The tables of the index as ClickHouse makes them, and how they came to be so. Pure.

    traces, spans    rows of index/rows/columns.py; a newer version of a row takes the place of the older one
    experiments      a number stands for one, worked out from its id or name: no two processes can differ
    labels           session, user and tags that MLflow holds of a trace
    scores           what was said of traces; what MLflow says has the higher version
    trace_days       trace id -> when it was first seen: which day's partition holds it
    changes          which traces have new spans, for those who follow them (changes.py); no row is replaced
    daily_numbers    what the rows of a day come to, for questions that come again (daily.py); for a day only
    sidespan_schema  the version of all this, on each server

A row's key and partition never change, or a newer row could not replace it. So traces and spans stand in the
partition of the day on which their trace was first seen, not in that of their start, which moves when late
spans come and which a client's wrong clock can put anywhere. A whole trace leaves together when its day is
over (TTL by part). `trace_days` is written first: what comes again after a crash finds the same day.

On a cluster each table is `NAME_local` on each shard, and NAME is `Distributed` over them by trace id.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from collector.index.rows.columns import LABEL_COLUMNS, SCORE_COLUMNS, SPAN_COLUMNS, TRACE_COLUMNS, Column

SCHEMA_VERSION = 2
# the first with the table `changes`
CHANGES_SINCE_VERSION = 2
VERSION_TABLE = "sidespan_schema"
LOCAL = "_local"
# ClickHouse's times end in 2106: beyond it there is no TTL
_MAX_TTL_SECONDS = 40 * 365 * 86_400

_TYPES = {
    "VARCHAR": "String",
    "BIGINT": "Int64",
    "INTEGER": "Int32",
    "UBIGINT": "UInt64",
    "BOOLEAN": "Bool",
    "DOUBLE": "Float64",
}
# numbers order as their hexadecimal digits do, and are compared fast
_IDS = {"trace_id": "UInt128", "experiment": "Int64"}
_NEVER_NULL = frozenset(
    {
        *("span_id", "start_unix_ns", "duration_ns", "low_ns", "seen_unix_ns", "self_ns", "kind", "status"),
        *("is_http", "is_roll_up", "input_excluded_cache", "is_error", "recovered_retry", "model_call"),
        *("tool_call", "counts_cost", "complete", "missing_parents", "span_count", "model_calls"),
        *("tool_calls", "error_spans", "recovered_retries", "truncated_calls", "unpriced_model_calls"),
    }
)
# the same few texts again and again
_FEW = frozenset(
    {
        *("kind", "status", "service", "service_version", "environment", "model", "request_model"),
        *("response_model", "provider", "agent", "owning_agent", "tool", "workflow", "cost_source"),
        *("counts_tokens", "finish_reason", "error_type", "retry_cause", "prompt_version", "prompt_name"),
    }
)


def clickhouse_type(column: Column, never_null: Set[str] = _NEVER_NULL) -> str:
    """The type of a column of index/rows/columns.py."""
    if column.name in _IDS:
        return _IDS[column.name]
    type = _TYPES[column.type]
    if column.name not in never_null:
        type = f"Nullable({type})"
    return f"LowCardinality({type})" if column.name in _FEW else type


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacingTable:
    """A table of rows of which the newest version counts. `month`: partitioned by month, else by day, or not.

    `leaves`: rows go `max_age_seconds` after `seen_unix_ns`.
    """

    name: str
    columns: Sequence[str]
    key: str
    partition: str | None = None
    leaves: bool = True
    sharding: str = "cityHash64(trace_id)"
    granularity: int = 8192


def types_of(columns: Sequence[Column], never_null: Set[str] = _NEVER_NULL) -> dict[str, str]:
    """The types of columns, by name."""
    return {column.name: clickhouse_type(column, never_null) for column in columns}


def _listed(columns: Sequence[Column], never_null: Set[str] = _NEVER_NULL) -> list[str]:
    return [f'"{name}" {type}' for name, type in types_of(columns, never_null).items()]


SCORES_NEVER_NULL = frozenset({"key", "time_unix_ns", "seen_unix_ns", "from_mlflow", "judge"})


_SEEN = "toDateTime(intDiv(seen_unix_ns, 1000000000), 'UTC')"
# the partition of a row of `traces` or `spans`
DAY = f"toDate({_SEEN})"
_VERSION = ("version UInt64", "is_deleted UInt8 DEFAULT 0")
_STARTS = "INDEX starts start_unix_ns TYPE minmax GRANULARITY 1"
TABLES = (
    ReplacingTable(
        name="traces",
        columns=(*_listed(TRACE_COLUMNS), *_VERSION, _STARTS),
        key="experiment, trace_id",
        partition=DAY,
    ),
    ReplacingTable(
        name="spans",
        columns=(*_listed(SPAN_COLUMNS), "seen_unix_ns Int64", *_VERSION, _STARTS),
        key="experiment, trace_id, span_id",
        partition=DAY,
    ),
    ReplacingTable(
        name="labels",
        columns=(*_listed(LABEL_COLUMNS), *_VERSION),
        key="trace_id, experiment",
        granularity=512,
    ),
    ReplacingTable(
        name="scores",
        columns=(*_listed(SCORE_COLUMNS, SCORES_NEVER_NULL), *_VERSION),
        key="experiment, trace_id, key",
    ),
    ReplacingTable(
        name="trace_days",
        columns=("trace_id UInt128", "experiment Int64", "seen_unix_ns Int64", *_VERSION),
        key="trace_id, experiment, seen_unix_ns",
        partition=f"toStartOfMonth({_SEEN})",
        granularity=512,
    ),
    ReplacingTable(
        name="experiments",
        columns=("number Int64", "id Nullable(String)", "name Nullable(String)", *_VERSION),
        key="number",
        leaves=False,
        sharding="cityHash64(number)",
    ),
)


CHANGES = "changes"
_BY_TRACE = "cityHash64(trace_id)"
_NOTED = "toDateTime(intDiv(position, 1000000000), 'UTC')"
# twice as long as changes are told; a part leaves as a whole
_CHANGES_KEPT_SECONDS = 1800

DAILY_NUMBERS = "daily_numbers"
# a row a day and group of a question: sums, values, different values, each in the order of the question's own
DAILY: Mapping[str, str] = {
    "day": "Date",
    "step": "Int64",
    "dimensions": "Array(Nullable(String))",
    "whole": "Array(Nullable(Int64))",
    "decimal": "Array(Nullable(Float64))",
    "wholes": "Array(Array(Int64))",
    "decimals": "Array(Array(Float64))",
    "different": "Array(Array(UInt128))",
}
DAILY_KEPT_SECONDS = 20 * 3600
_DAILY_LEAVE_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the tables are: on one server, or on each shard of a cluster; with Keeper as replicas."""

    database: str
    cluster: str | None
    replicated: bool
    max_age_seconds: float

    def stored(self, name: str) -> str:
        """The table that holds the rows of `name` on one server."""
        return f"{name}{LOCAL}" if self.cluster else name

    def ttl(self) -> str | None:
        """When rows leave; None: never."""
        if self.max_age_seconds > _MAX_TTL_SECONDS:
            return None
        return f"{_SEEN} + INTERVAL {int(self.max_age_seconds)} SECOND"


def creation(layout: Layout) -> list[str]:
    """The statements that make all tables on one server where they are missing."""
    statements = [
        f"CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (version UInt32, made DateTime DEFAULT now())"
        " ENGINE = MergeTree ORDER BY made"
    ]
    for table in TABLES:
        statements.append(_creation(table, layout))
        statements += _distributed(table.name, table.sharding, layout)
    return [*statements, *_second(layout)]


def _distributed(name: str, sharding: str, layout: Layout) -> list[str]:
    """The statement that makes the table over all shards; none without a cluster."""
    if layout.cluster is None:
        return []
    stored = layout.stored(name)
    return [
        f"CREATE TABLE IF NOT EXISTS {name} AS {stored} ENGINE = Distributed("
        f"'{layout.cluster}', '{layout.database}', '{stored}', {sharding})"
    ]


def _creation(table: ReplacingTable, layout: Layout) -> str:
    stored = layout.stored(table.name)
    settings = {
        "index_granularity": table.granularity,
        "ttl_only_drop_parts": 1 if table.partition else 0,
        # a day that is over becomes one part, of which reads need not look for newer rows
        "min_age_to_force_merge_seconds": 900,
        "min_age_to_force_merge_on_partition_only": 1,
    }
    partition = f" PARTITION BY {table.partition}" if table.partition else ""
    ttl = f" TTL {layout.ttl()}" if table.leaves and layout.ttl() else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {stored} ({', '.join(table.columns)})"
        f" ENGINE = {_engine('ReplacingMergeTree', stored, layout, 'version, is_deleted')}{partition}"
        f" ORDER BY ({table.key}){ttl} SETTINGS {_settings(settings, layout)}"
    )


def changes_creation(layout: Layout) -> list[str]:
    """The statements that make the table of changes."""
    stored = layout.stored(CHANGES)
    columns = (
        "position Int64 DEFAULT toUnixTimestamp64Nano(now64(9)) + number",
        *("number UInt32", "experiment Int64", "trace_id UInt128", "seen_unix_ns Int64"),
        "spans Array(UInt64)",
    )
    return [
        f"CREATE TABLE IF NOT EXISTS {stored} ({', '.join(columns)})"
        f" ENGINE = {_engine('MergeTree', stored, layout)} PARTITION BY toStartOfFifteenMinutes({_NOTED})"
        f" ORDER BY position TTL {_NOTED} + INTERVAL {_CHANGES_KEPT_SECONDS} SECOND"
        f" SETTINGS {_settings({'ttl_only_drop_parts': 1}, layout)}",
        *_distributed(CHANGES, _BY_TRACE, layout),
    ]


def daily_creation(layout: Layout) -> list[str]:
    """The statements that make the table of daily numbers."""
    stored = layout.stored(DAILY_NUMBERS)
    columns = (
        "kept UInt64",
        *(f"{name} {type}" for name, type in DAILY.items()),
        "made DateTime DEFAULT now()",
    )
    return [
        f"CREATE TABLE IF NOT EXISTS {stored} ({', '.join(columns)})"
        f" ENGINE = {_engine('MergeTree', stored, layout)} PARTITION BY toStartOfHour(made)"
        f" ORDER BY (kept, day) TTL made + INTERVAL {_DAILY_LEAVE_SECONDS} SECOND"
        f" SETTINGS {_settings({'ttl_only_drop_parts': 1}, layout)}",
        *_distributed(DAILY_NUMBERS, "rand()", layout),
    ]


def _second(layout: Layout) -> list[str]:
    """What the second version has beside the first."""
    return [*changes_creation(layout), *daily_creation(layout)]


def _engine(name: str, stored: str, layout: Layout, arguments: str = "") -> str:
    """The engine of a table, or its form with copies."""
    if not layout.replicated:
        return f"{name}({arguments})"
    place = f"'/clickhouse/tables/{{shard}}/{layout.database}/{stored}', '{{replica}}'"
    return f"Replicated{name}({', '.join(filter(None, (place, arguments)))})"


def _settings(settings: Mapping[str, int], layout: Layout) -> str:
    """With copies, inserts that come again are known anyway."""
    known = {} if layout.replicated else {"non_replicated_deduplication_window": 1000}
    return ", ".join(f"{name} = {value}" for name, value in {**settings, **known}.items())


def retention(layout: Layout) -> list[str]:
    """The statements that set how long rows stay, for tables that were made under another setting."""
    change = f"MODIFY TTL {layout.ttl()}" if layout.ttl() else "REMOVE TTL"
    return [f"ALTER TABLE {layout.stored(table.name)} {change}" for table in TABLES if table.leaves]


STEPS: Mapping[int, Callable[[Layout], Sequence[str]]] = {1: _second}
"""From each earlier version: the statements that lead to the next, which change nothing if they run again."""


def migration(version: int, layout: Layout) -> list[str] | None:
    """The statements from `version` to ours; None: there is no way."""
    statements: list[str] = []
    while version < SCHEMA_VERSION and version in STEPS:
        statements += STEPS[version](layout)
        version += 1
    return statements if version == SCHEMA_VERSION else None
