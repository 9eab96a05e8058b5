"""The table of scores: what the journal brings is added, what MLflow says takes its place. Synchronous.

Each function but `forget_alone` runs inside a transaction.
"""

from collections.abc import Mapping, Sequence

import duckdb

from collector.index.protocol import Delivered
from collector.index.rows.gathered import TraceKey
from collector.index.rows.rows import score_row
from collector.spans.score_facts import ScoreFact

Db = duckdb.DuckDBPyConnection
_SAME = "s.experiment = n.experiment AND s.trace_id = n.trace_id AND s.key = n.key"


def make_room(db: Db) -> None:
    """A table for scores that are new; `add_new` takes them from there."""
    db.execute("CREATE OR REPLACE TEMP TABLE new_scores AS SELECT * FROM scores LIMIT 0")


def add_new(db: Db) -> None:
    """Those that aren't there yet: what is there is the same, or MLflow's, which holds."""
    db.execute(
        "INSERT INTO scores SELECT DISTINCT ON (experiment, trace_id, key) * FROM new_scores n"  # noqa: S608 (constants)
        f" WHERE NOT EXISTS (SELECT 1 FROM scores s WHERE {_SAME}) ORDER BY experiment, trace_id, key"
    )


def replace(
    db: Db, said: Mapping[TraceKey, Sequence[ScoreFact]], delivered: Delivered, *, now_unix_ns: int
) -> None:
    """MLflow's word on the scores of these traces, in the place of its last one and of what was delivered."""
    traces = [
        (experiment, trace_id, 0 if trace_id in delivered.but else delivered.before_unix_ns)
        for experiment, trace_id in said
    ]
    db.execute(
        "CREATE OR REPLACE TEMP TABLE told AS SELECT unnest(?::INTEGER[]) AS experiment,"
        " unnest(?::UUID[]) AS trace_id, unnest(?::BIGINT[]) AS before_unix_ns",
        [list(column) for column in zip(*traces, strict=True)] if traces else [[], [], []],
    )
    db.execute(
        "DELETE FROM scores WHERE EXISTS (SELECT 1 FROM told t WHERE t.experiment = scores.experiment"
        " AND t.trace_id = scores.trace_id"
        " AND (scores.from_mlflow OR scores.seen_unix_ns < t.before_unix_ns))"
    )
    make_room(db)
    rows = [
        score_row(each, experiment, seen_unix_ns=_seen(each, now_unix_ns), from_mlflow=True)
        for (experiment, _), scores in said.items()
        for each in scores
    ]
    if rows:
        places = ", ".join("?" * len(rows[0]))
        db.executemany(f"INSERT INTO new_scores VALUES ({places})", rows)  # noqa: S608 (question marks)
        db.execute(f"DELETE FROM scores s WHERE EXISTS (SELECT 1 FROM new_scores n WHERE {_SAME})")  # noqa: S608
        add_new(db)


def _seen(score: ScoreFact, now_unix_ns: int) -> int:
    """Old scores leave with old traces, whenever they were read."""
    return min(score.time_unix_ns or now_unix_ns, now_unix_ns)


def forget_alone(db: Db, *, seen_before_unix_ns: int) -> int:
    """Take out old scores whose trace isn't here; how many. The others leave with their trace."""
    gone = db.execute(
        "DELETE FROM scores WHERE seen_unix_ns < ? AND NOT EXISTS (SELECT 1 FROM traces t"
        " WHERE t.experiment = scores.experiment AND t.trace_id = scores.trace_id)",
        [seen_before_unix_ns],
    ).fetchone()
    return int(gone[0]) if gone else 0


def move(db: Db, *, to: int, of: int) -> None:
    """The scores of one experiment become another's; a score in both is one."""
    db.execute(
        "DELETE FROM scores s WHERE s.experiment = ? AND EXISTS (SELECT 1 FROM scores o"
        " WHERE o.experiment = ? AND o.trace_id = s.trace_id AND o.key = s.key)",
        [of, to],
    )
    db.execute("UPDATE scores SET experiment = ? WHERE experiment = ?", [to, of])
