"""Made-up traces as rows on ClickHouse, beside tests/support/indexed.py."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from collector.index.clickhouse.book import ExperimentBook
from collector.index.clickhouse.kept import KeptNumbers
from collector.index.clickhouse.lookups import ClickhouseTables
from collector.index.clickhouse.make import rewritten
from collector.index.clickhouse.preparing import prepare
from collector.index.clickhouse.rows import SCORE_NAMES, csv_of, encoded, score_as_stored
from collector.index.clickhouse.schema import Layout
from collector.index.clickhouse.server import ClickhouseServer
from collector.index.clickhouse.store import ClickhouseStore
from collector.index.rows.gathered import Gathered, TraceKey, with_stored
from collector.index.rows.rows import score_row
from collector.model.experiment import ExperimentReference
from collector.settings import ClickhouseSettings
from collector.spans.score_facts import ScoreFact
from collector.spans.values import SpanFacts
from tests.support.clickhouse_server import ClickhouseStage
from tests.support.indexed import BEGIN_NS

DAY_NS = 86_400 * 10**9
# so long ago that nothing leaves while it is tested, and not so long that times end
MAX_AGE_SECONDS = 30 * 365 * 86_400.0


@dataclass(frozen=True)
class FilledTables:
    """A store, as tests of questions ask it."""

    store: ClickhouseStore
    db: ClickhouseTables
    layout: Layout

    def day_by_day(self) -> ClickhouseTables:
        """The same tables as they are now, asked with what is kept of their days."""
        return replace(self.db, kept=KeptNumbers(self.store.server, self.layout).now())

    def counts(self) -> tuple[int, int]:
        """Traces and spans."""
        [(traces,)] = self.store.server.rows("SELECT count() FROM traces")
        [(spans,)] = self.store.server.rows("SELECT count() FROM spans")
        return traces, spans


@contextmanager
def tables_on(servers: ClickhouseStage) -> Iterator[FilledTables]:
    """Empty tables in a new database."""
    place = servers.place()
    server = ClickhouseServer(place, ClickhouseSettings(cluster=servers.cluster))
    layout = Layout(
        database=place.name, cluster=servers.cluster, replicated=False, max_age_seconds=MAX_AGE_SECONDS
    )
    prepare(server, layout)
    try:
        yield FilledTables(ClickhouseStore(server), ClickhouseTables(server), layout)
    finally:
        server.close()


def put_rows(
    tables: FilledTables,
    spans: Sequence[SpanFacts],
    *,
    experiment: ExperimentReference | None = None,
    run_id: str | None = None,
) -> None:
    """One batch, as `put` of tests/support/indexed.py; its traces were first seen on one of three days."""
    number = ExperimentBook(tables.store).number_of(experiment or ExperimentReference(id="1", name="shop"))
    found: dict[TraceKey, Gathered] = {}
    for span in spans:
        seen = BEGIN_NS + int(span.trace_id, 16) % 3 * DAY_NS
        new = Gathered(run_id=run_id, seen_unix_ns=seen)
        found.setdefault((number, span.trace_id), new).spans.append(span)
    stored = tables.store.stored(list(found))
    whole = {key: with_stored(trace, stored.get(key)) for key, trace in found.items()}
    tables.store.put(rewritten(whole, preview_characters=200).rows)


def put_score_rows(
    tables: FilledTables,
    scores: Sequence[ScoreFact],
    *,
    experiment: ExperimentReference | None = None,
    seen_unix_ns: int = BEGIN_NS,
) -> None:
    """One batch of scores, as the log brings them."""
    number = ExperimentBook(tables.store).number_of(experiment or ExperimentReference(id="1", name="shop"))
    rows = [score_as_stored(score_row(each, number, seen_unix_ns=seen_unix_ns)) for each in scores]
    tables.store.server.insert("scores", SCORE_NAMES, encoded(csv_of(rows)))
