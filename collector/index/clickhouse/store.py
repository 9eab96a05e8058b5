"""The index's tables on ClickHouse: what is stored of traces, and every change to it. Synchronous.

    a batch = when its traces were first seen; rows of `traces`, `spans`, `scores`, `changes`   each an insert

There are no transactions. Instead, whatever is cut off is written again: rows have keys and versions
(rows.py), an insert has a token made of the entries' places in the log, and only then does the log's cursor
move. A trace's row is put together anew from all its spans when late ones come, by the same code as on
DuckDB: sums of sums at read time could not tell what a late span does to those before it.
"""

import hashlib
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.index.clickhouse import changes
from collector.index.clickhouse.rows import (
    DAY_NAMES,
    SCORE_NAMES,
    SPAN_NAMES,
    TRACE_NAMES,
    RowsOfTraces,
    csv_of,
    encoded,
    score_as_stored,
)
from collector.index.clickhouse.server import ClickhouseServer, External, Rows
from collector.index.protocol import Delivered
from collector.index.rows.columns import FACT_COLUMNS, LABEL_COLUMNS
from collector.index.rows.gathered import Gathered, TraceKey
from collector.index.rows.rows import facts_of_row, score_row
from collector.model.experiment import ExperimentReference
from collector.spans.labels import NO_LABELS, TraceLabels
from collector.spans.score_facts import ScoreFact

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_LEVEL = 1
LABEL_NAMES = (*(column.name for column in LABEL_COLUMNS), "version", "is_deleted")
EXPERIMENT_NAMES = ("number", "id", "name", "version", "is_deleted")
_FACTS = ", ".join(f'"{column.name}"' for column in FACT_COLUMNS)
# traces of an experiment that are moved at a time
MOVED_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownExperiment:
    """A row of `experiments`."""

    number: int
    id: str | None
    name: str | None
    version: int


class ClickhouseStore:
    """The tables; several processes may change them, each its own traces."""

    def __init__(self, server: ClickhouseServer) -> None:
        self.server = server

    # traces

    def stored(self, keys: Sequence[TraceKey]) -> dict[TraceKey, Gathered]:
        """Of these traces those that are in here, with all their spans, and labels of some that aren't."""
        if not keys:
            return {}
        found = self._first_seen(keys)
        if found:
            self._read_traces(found)
        for key, labels in self._labels(keys).items():
            found.setdefault(key, Gathered()).labels = labels
        return found

    def _first_seen(self, keys: Sequence[TraceKey]) -> dict[TraceKey, Gathered]:
        rows = self.server.rows(
            "SELECT experiment, leftPad(lower(hex(trace_id)), 32, '0'), min(seen_unix_ns) FROM trace_days"
            " WHERE trace_id IN (SELECT trace_id FROM wanted) GROUP BY experiment, trace_id",
            external=_wanted(keys),
            final=False,
        )
        asked = set(keys)
        return {
            (experiment, trace_id): Gathered(seen_unix_ns=seen)
            for experiment, trace_id, seen in rows
            if (experiment, trace_id) in asked
        }

    def _read_traces(self, found: Mapping[TraceKey, Gathered]) -> None:
        # partitions outside of these days aren't looked at
        days = [trace.seen_unix_ns or 0 for trace in found.values()]
        which = "(experiment, trace_id) IN (SELECT experiment, trace_id FROM wanted)"
        between = "seen_unix_ns BETWEEN ? AND ?"
        hex_id = "leftPad(lower(hex(trace_id)), 32, '0')"
        wanted, limits = _wanted(list(found)), [min(days), max(days)]
        for experiment, trace_id, run_id, version in self.server.rows(
            f"SELECT experiment, {hex_id}, run_id, version FROM traces WHERE {between} AND {which}",
            limits,
            external=wanted,
        ):
            trace = found[experiment, trace_id]
            trace.run_id, trace.version = run_id, version
        for experiment, trace_id, version, span_id, parent, *facts in self.server.rows(
            f"SELECT experiment, {hex_id}, version, span_id, parent_span_id, {_FACTS}, tags, links,"
            f" error_message, own_facts FROM spans WHERE {between} AND {which}",
            limits,
            external=wanted,
        ):
            trace = found[experiment, trace_id]
            trace.version = max(trace.version, version)
            trace.spans.append(facts_of_row(trace_id, span_id, parent, facts))

    def put(self, rows: RowsOfTraces) -> None:
        """These rows, in the place of older ones of the same traces and spans."""
        for table, names, block in (
            # a trace that was begun and cut off is found by its day, and then has the same one
            ("trace_days", DAY_NAMES, rows.days),
            ("traces", TRACE_NAMES, rows.traces),
            ("spans", SPAN_NAMES, rows.spans),
            ("scores", SCORE_NAMES, rows.scores),
        ):
            if block:
                token = None if rows.token is None else f"{rows.token}-{table}"
                compressed = zstd.compress(block, ZSTD_LEVEL)
                self.server.insert(table, names, compressed, format="Native", compression="zstd", token=token)
        if rows.changes:
            changes.note(self.server, rows.changes, token=rows.token)

    # labels

    def _labels(self, keys: Sequence[TraceKey]) -> dict[TraceKey, TraceLabels]:
        rows = self.server.rows(
            "SELECT experiment, leftPad(lower(hex(trace_id)), 32, '0'), session, \"user\", tags FROM labels"
            " WHERE trace_id IN (SELECT trace_id FROM wanted)",
            external=_wanted(keys),
        )
        asked = set(keys)
        return {
            (experiment, trace_id): TraceLabels(
                session=session, user=user, tags=tuple((name, value) for name, value in json.loads(tags))
            )
            for experiment, trace_id, session, user, tags in rows
            if (experiment, trace_id) in asked
        }

    def put_labels(self, labels: Mapping[TraceKey, TraceLabels]) -> None:
        """What MLflow holds of these traces, in the place of what was known of it; rows stay as they are."""
        now = time.time_ns()
        rows = [
            (
                *(experiment, int(trace_id, 16), each.session, each.user, json.dumps(each.tags)),
                *(now, now, int(each == NO_LABELS)),
            )
            for (experiment, trace_id), each in labels.items()
        ]
        if rows:
            self.server.insert("labels", LABEL_NAMES, encoded(csv_of(rows)))

    # scores

    def put_scores(self, said: Mapping[TraceKey, Sequence[ScoreFact]], delivered: Delivered) -> None:
        """MLflow's word on the scores of these traces, in the place of its last and of what was delivered."""
        if not said:
            return
        now = time.time_ns()
        gone = [
            (experiment, int(trace_id, 16), key, seen, now, 1)
            for experiment, trace_id, key, seen, from_mlflow in self._scores(list(said))
            if (experiment, trace_id) in said
            and (from_mlflow or seen < (0 if trace_id in delivered.but else delivered.before_unix_ns))
        ]
        there = [
            score_as_stored(row, now + 1)
            for (experiment, _), scores in said.items()
            for each in scores
            for row in [score_row(each, experiment, seen_unix_ns=_seen(each, now), from_mlflow=True)]
        ]
        for names, rows in ((_GONE_SCORES, gone), (SCORE_NAMES, there)):
            if rows:
                self.server.insert("scores", names, encoded(csv_of(rows)))

    def _scores(self, keys: Sequence[TraceKey]) -> Rows:
        return self.server.rows(
            "SELECT experiment, leftPad(lower(hex(trace_id)), 32, '0'), key, seen_unix_ns, from_mlflow"
            " FROM scores WHERE (experiment, trace_id) IN (SELECT experiment, trace_id FROM wanted)",
            external=_wanted(keys),
        )

    def move_scores(self, of: int, to: int) -> None:
        """The scores of one experiment become another's; a score in both is one."""
        columns = ", ".join(f'"{name}"' for name in SCORE_NAMES)
        moved = ", ".join("? AS experiment" if name == "experiment" else f'"{name}"' for name in SCORE_NAMES)
        self.server.command(
            f"INSERT INTO scores ({columns}) SELECT {moved} FROM scores FINAL WHERE scores.experiment = ?",
            values=[to, of],
        )
        self.server.command(
            f"INSERT INTO scores ({', '.join(_GONE_SCORES)}) SELECT experiment, trace_id, key, seen_unix_ns,"
            " version + 1, 1 FROM scores FINAL WHERE experiment = ?",
            values=[of],
        )

    def move_changes(self, of: int, to: int) -> None:
        """What was noted of one experiment's traces is another's."""
        changes.move(self.server, of=of, to=to)

    # experiments

    def experiments(self) -> list[KnownExperiment]:
        """All that are known."""
        rows = self.server.rows("SELECT number, id, name, version FROM experiments")
        return [
            KnownExperiment(number=number, id=id, name=name, version=version)
            for number, id, name, version in rows
        ]

    def note(self, experiment: KnownExperiment, *, is_gone: bool = False) -> None:
        """What is known of an experiment now."""
        version = max(time.time_ns(), experiment.version + 1)
        row = (experiment.number, experiment.id, experiment.name, version, int(is_gone))
        self.server.insert("experiments", EXPERIMENT_NAMES, encoded(csv_of([row])))

    def traces_of(self, experiment: int) -> list[TraceKey]:
        """Some traces of an experiment."""
        rows = self.server.rows(
            "SELECT leftPad(lower(hex(trace_id)), 32, '0') FROM traces WHERE experiment = ?"
            f" LIMIT {MOVED_AT_ONCE}",
            [experiment],
        )
        return [(experiment, trace_id) for (trace_id,) in rows]

    def labelled_in(self, experiment: int) -> list[TraceKey]:
        """Some traces of an experiment that there are labels of."""
        rows = self.server.rows(
            "SELECT leftPad(lower(hex(trace_id)), 32, '0') FROM labels WHERE experiment = ?"
            f" LIMIT {MOVED_AT_ONCE}",
            [experiment],
        )
        return [(experiment, trace_id) for (trace_id,) in rows]

    def take_out(self, traces: Mapping[TraceKey, Gathered]) -> None:
        """The rows of these traces; what is stored of them was read before."""
        for table, names, block in (
            ("spans", _GONE_SPANS, encoded(csv_of(_gone_spans(traces)))),
            ("traces", _GONE_TRACES, encoded(csv_of(_gone_traces(traces)))),
        ):
            self.server.insert(table, names, block)


def number_for(experiment: ExperimentReference) -> int:
    """The number of an experiment that is new: the same whoever meets it first."""
    text = f"id:{experiment.id}" if experiment.id is not None else f"name:{experiment.name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def _seen(score: ScoreFact, now_unix_ns: int) -> int:
    """Old scores leave with old traces, whenever they were read."""
    return min(score.time_unix_ns or now_unix_ns, now_unix_ns)


def _wanted(keys: Sequence[TraceKey]) -> External:
    rows = b"".join(b"%d,%d\n" % (experiment, int(trace_id, 16)) for experiment, trace_id in keys)
    return External(name="wanted", columns=("experiment Int64", "trace_id UInt128"), rows=rows)


# a row that says that another one is gone: the key, the partition, the version, and what can't be missing
_GONE_SCORES = ("experiment", "trace_id", "key", "seen_unix_ns", "version", "is_deleted")
_GONE_TRACES = ("experiment", "trace_id", "seen_unix_ns", "version", "is_deleted")
_GONE_SPANS = ("experiment", "trace_id", "span_id", "seen_unix_ns", "version", "is_deleted")


def _gone_traces(traces: Mapping[TraceKey, Gathered]) -> Iterable[Sequence[Any]]:
    for (experiment, trace_id), trace in traces.items():
        yield experiment, int(trace_id, 16), trace.seen_unix_ns, trace.version + 1, 1


def _gone_spans(traces: Mapping[TraceKey, Gathered]) -> Iterable[Sequence[Any]]:
    for (experiment, trace_id), trace in traces.items():
        for span in trace.spans:
            id = int(span.span_id, 16)
            yield experiment, int(trace_id, 16), id, trace.seen_unix_ns, trace.version + 1, 1
