"""Many traces from a few: copies inside the stores, each with ids and times of its own.

What is measured on them are questions, so how the rows came in doesn't matter.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb

from collector.index.duckdb.store import FILE_NAME
from collector.index.rows.columns import SPAN_COLUMNS, TRACE_COLUMNS

HOUR_NS = 3_600_000_000_000
# column -> SQL over `o`, the original, and `m`, a number and a part of one for each copy of a trace
VARIED = {
    "trace_id": "md5(o.trace_id::VARCHAR || m.copy)::UUID",
    "start_unix_ns": f"o.start_unix_ns - m.copy * {HOUR_NS} // 4",
    "low_ns": f"o.low_ns - m.copy * {HOUR_NS} // 4",
    # durations from a fifth of the original's to ten times as long
    "duration_ns": "(o.duration_ns * (0.2 + 10 * m.part ** 3))::BIGINT",
    "session": "'session-' || (m.number % 20000)",
    "of_session": "'session-' || (m.number % 20000)",
    "user": "'user-' || (m.number % 500)",
    "of_user": "'user-' || (m.number % 500)",
    "service": "'service-' || (m.number % 5)",
    "agent": "'agent-' || (m.number % 12)",
    "owning_agent": "'agent-' || (m.number % 12)",
    "agents": "chr(31) || 'agent-' || (m.number % 12) || chr(31)",
    "model": "CASE WHEN o.model IS NOT NULL THEN 'model-' || (m.number % 6) END",
    "models": "chr(31) || 'model-' || (m.number % 6) || chr(31)",
    "status": "CASE WHEN m.number % 33 = 0 THEN 'ERROR' ELSE 'OK' END",
    "is_error": "m.number % 33 = 0 AND o.kind = 'TOOL'",
    "error_group": "CASE WHEN m.number % 33 = 0 THEN 'failed because of ' || (m.number % 40) END",
}


def multiply_index(folder: Path, copies: int, *, varied: bool) -> tuple[int, int]:
    """Put `copies` of each trace in the place of what is there; how many traces and spans there are then."""
    with closing(duckdb.connect(str(folder / FILE_NAME), config={"checkpoint_threshold": "512MB"})) as db:
        db.execute("CREATE TEMP TABLE t AS SELECT * FROM traces")
        db.execute("CREATE TEMP TABLE s AS SELECT * FROM spans")
        db.execute("DELETE FROM traces")
        db.execute("DELETE FROM spans")
        chosen = VARIED if varied else {key: VARIED[key] for key in ("trace_id",)}
        for copy in range(copies):
            db.execute(
                "CREATE OR REPLACE TEMP TABLE m AS SELECT trace_id, ? AS copy, row_number() OVER ()"
                " + ? AS number, random() AS part FROM t",
                [copy, copy * 1_000_003 % 999_983],
            )
            for table, columns in (("traces", TRACE_COLUMNS), ("spans", SPAN_COLUMNS)):
                listed = ", ".join(chosen.get(each.name, f'o."{each.name}"') for each in columns)
                db.execute(
                    f"INSERT INTO {table} SELECT {listed} FROM {table[0]} o JOIN m ON m.trace_id = o.trace_id"
                )
        db.execute("CHECKPOINT")
        [(traces,), (spans,)] = [
            db.execute(f"SELECT count(*) FROM {table}").fetchall()[0] for table in ("traces", "spans")
        ]
        return traces, spans


# of MLflow's tables: what names the trace
KEYS = {
    "trace_info": "request_id",
    "trace_tags": "request_id",
    "trace_request_metadata": "request_id",
    "spans": "trace_id",
}


def multiply_mlflow(database: Path, copies: int, *, apart_ms: int = 0) -> tuple[int, int]:
    """The same of the traces in MLflow's SQLite, with the server stopped; each copy so much older."""
    moved = {"timestamp_ms": f" - n * {apart_ms}"}
    for name in ("start_time_unix_nano", "end_time_unix_nano"):
        moved[name] = f" - n * {apart_ms} * 1000000"
    with closing(sqlite3.connect(database)) as db:
        # nobody else has the file, and it is made anew if this fails
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -400000"):
            db.execute(f"PRAGMA {pragma}")
        for table, key in KEYS.items():
            # generated columns can't be written
            names = [row[1] for row in db.execute(f"PRAGMA table_xinfo({table})") if row[6] == 0]
            changed = {**moved, key: " || '-' || n"}
            listed = ", ".join(f'o."{name}"{changed.get(name, "")}' for name in names)
            columns = ", ".join(f'"{name}"' for name in names)
            db.execute(f"CREATE TEMP TABLE o AS SELECT * FROM {table}")
            db.execute(
                "WITH RECURSIVE numbers(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)"
                f" INSERT INTO {table} ({columns}) SELECT {listed} FROM o CROSS JOIN numbers",
                [copies],
            )
            db.execute("DROP TABLE o")
        db.commit()
        db.execute("ANALYZE")
        db.execute("PRAGMA journal_mode = DELETE")
        [(traces,)] = db.execute("SELECT count(*) FROM trace_info")
        [(spans,)] = db.execute("SELECT count(*) FROM spans")
        return traces, spans
