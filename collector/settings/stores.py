"""What is stored here: the log and the index, with their bounds."""

from pydantic import Field, field_validator

from collector.settings.engines import INDEX_ENGINES, LOG_ENGINES, MIB, read_engine_url
from collector.settings.section import Section


class JournalSettings(Section):
    """The durable log between receivers and consumers."""

    url: str | None = None
    """Where it is kept: `sqlite:///FOLDER`, or `kafka://HOST:PORT,HOST:PORT/PREFIX` (docs/scale.md). By
    default SQLite in the data folder."""
    max_bytes: int = Field(4096 * MIB, ge=MIB)
    """Size of the journal on disk, dead letters included; beyond it new requests get 503."""
    min_free_disk_bytes: int = Field(64 * MIB, ge=0)
    """Free disk space; below it new requests get 503."""
    retention_seconds: float = Field(0.0, ge=0)
    """How long delivered entries are kept for `sidespan replay`."""
    max_commit_bytes: int = Field(32 * MIB, gt=0)
    """Size of one commit; requests that wait at the same time share one."""
    max_notes: int = Field(200_000, ge=1000)
    """Traces whose notes are kept between requests: a name, a session, a sampling decision."""
    quarantine_after_crashes: int = Field(3, ge=2)
    """Crashes during the processing of an entry after which it becomes a dead letter."""

    @field_validator("url")
    @classmethod
    def _is_a_log(cls, value: str | None) -> str | None:
        if value is not None:
            read_engine_url(value, LOG_ENGINES)
        return value


class IndexSettings(Section):
    """The summaries' own store, filled as spans pass by."""

    enabled: bool = True
    """Keep the index; if off, there is one process less, and only single traces and runs have summaries."""
    url: str | None = None
    """Where it is kept: `duckdb:///FOLDER`, or `clickhouse://USER@HOST:PORT/DATABASE` (docs/scale.md). By
    default DuckDB in the data folder."""
    processes: int = Field(2, ge=1, le=16)
    """Processes that index a backlog; those beyond the first run only while there is one."""
    memory_bytes: int = Field(512 * MIB, ge=64 * MIB)
    """Memory of DuckDB for a query; beyond it, DuckDB uses the disk."""
    max_age_seconds: float = Field(90 * 86_400.0, gt=0)
    """How long a trace stays in the index after its first span arrived."""
    max_bytes: int = Field(8192 * MIB, ge=16 * MIB)
    """Size on disk; beyond it the oldest traces are removed."""
    catch_up_max_traces: int = Field(10_000, ge=0)
    """Where `proxy.answer_from_index` is `auto`: so many traces of an experiment that came to MLflow without
    Sidespan are read into the index by themselves; more need `sidespan index backfill`."""
    preview_characters: int = Field(200, ge=0, le=1000)
    """Characters kept of an error message, the only content of spans in the index; 0 for none."""

    @field_validator("url")
    @classmethod
    def _is_an_index(cls, value: str | None) -> str | None:
        if value is not None:
            read_engine_url(value, INDEX_ENGINES)
        return value
