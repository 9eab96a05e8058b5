"""Numbers that ClickHouse keeps of whole days: always those of the rows that are there now."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from collector.index.clickhouse import kept
from collector.index.clickhouse.kept import KeptNumbers
from collector.index.clickhouse.lookups import ClickhouseTables
from collector.index.sql import answers
from collector.model.experiment import ExperimentReference
from tests.support.clickhouse_rows import FilledTables, put_rows, tables_on
from tests.support.clickhouse_server import ClickhouseStage
from tests.support.indexed import BEGIN_NS, SECOND, asked, made_spans

pytestmark = pytest.mark.scale


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little there is, and however new it is."""
    monkeypatch.setattr(kept, "WORTH_ROWS", 0)
    monkeypatch.setattr(kept, "QUIET_SECONDS", -1)


@pytest.fixture
def tables(clickhouse: ClickhouseStage) -> Iterator[FilledTables]:
    with tables_on(clickhouse) as filled:
        put_rows(filled, made_spans(range(60)))
        yield filled


def kept_of(tables: FilledTables) -> KeptNumbers:
    return KeptNumbers(tables.store.server, tables.layout)


def overview(tables: FilledTables, numbers: KeptNumbers | None, **parameters: Any) -> dict[str, Any]:
    db = replace(tables.db, kept=numbers.now()) if numbers else tables.db
    return answers.overview(db, asked(**parameters))


def stats(tables: FilledTables, numbers: KeptNumbers | None, **parameters: Any) -> dict[str, Any]:
    db = replace(tables.db, kept=numbers.now()) if numbers else tables.db
    return answers.stats(db, asked(**parameters))


def kept_days(tables: FilledTables) -> int:
    """How often a day's numbers were worked out."""
    rows = tables.store.server.rows("SELECT uniqExact(kept, day) FROM daily_numbers")
    return int(rows[0][0])


COUNTS: dict[str, Any] = {"metric": ["count", "duration_seconds_p95", "sessions", "cost_usd"]}


def test_a_day_is_worked_out_once_and_again_when_it_is_written_to(tables: FilledTables) -> None:
    numbers = kept_of(tables)
    assert stats(tables, numbers, **COUNTS) == stats(tables, None, **COUNTS)
    assert kept_days(tables) == 3
    stats(tables, numbers, **COUNTS)
    assert kept_days(tables) == 3
    # a late span changes a trace of one day
    spans = made_spans(range(1))
    late = replace(spans[0], span_id="ab" * 8, end_unix_ns=spans[0].end_unix_ns + 100 * SECOND)
    before = stats(tables, numbers, **COUNTS)
    put_rows(tables, [late])
    after = stats(tables, numbers, **COUNTS)
    assert after == stats(tables, None, **COUNTS) != before
    assert kept_days(tables) == 4


def test_parts_that_are_merged_change_no_answer(tables: FilledTables) -> None:
    put_rows(tables, made_spans(range(30, 90)))
    numbers = kept_of(tables)
    expected = overview(tables, None)
    assert overview(tables, numbers) == expected
    for table in ("traces", "spans"):
        tables.store.server.command(f"OPTIMIZE TABLE {table} FINAL")
    assert overview(tables, numbers) == expected


@pytest.mark.parametrize("change", ["TRUNCATE TABLE daily_numbers", "DROP TABLE daily_numbers SYNC"])
def test_numbers_that_are_gone_are_worked_out_again(tables: FilledTables, change: str) -> None:
    numbers, expected = kept_of(tables), overview(tables, None)
    assert overview(tables, numbers) == expected
    tables.store.server.command(change)
    for _ in range(2):
        assert overview(tables, kept_of(tables)) == overview(tables, numbers) == expected


def test_days_that_a_bound_of_time_cuts_are_asked_row_by_row(tables: FilledTables) -> None:
    numbers = kept_of(tables)
    overview(tables, numbers)
    for bounds in (
        {"since": str(BEGIN_NS + 1800 * SECOND)},
        {"until": str(BEGIN_NS + 1800 * SECOND)},
        {"since": str(BEGIN_NS), "until": str(BEGIN_NS + 3600 * SECOND)},
        {"since": str(BEGIN_NS + 10**5 * SECOND)},
    ):
        assert overview(tables, numbers, **bounds) == overview(tables, None, **bounds)


def test_an_experiment_that_gets_its_id_changes_what_is_meant(tables: FilledTables) -> None:
    numbers, named = kept_of(tables), ExperimentReference(id=None, name="desk")
    put_rows(tables, made_spans(range(60, 90)), experiment=named)
    of_its_id = {**COUNTS, "experiment_id": "7"}
    assert stats(tables, numbers, **of_its_id)["total"]["count"] == 0
    put_rows(tables, [], experiment=ExperimentReference(id="7", name="desk"))
    assert stats(tables, numbers, **of_its_id)["total"]["count"] == 30


def test_what_is_kept_has_a_bound(tables: FilledTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_BYTES", 0)
    assert overview(tables, kept_of(tables)) == overview(tables, None)
    assert kept_days(tables) == 0


def test_little_is_asked_at_once(tables: FilledTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "WORTH_ROWS", 10_000)
    assert overview(tables, kept_of(tables)) == overview(tables, None)
    assert kept_days(tables) == 0


def test_many_days_are_worked_out_in_shares(tables: FilledTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MADE_ROWS", 1)
    assert stats(tables, kept_of(tables), **COUNTS) == stats(tables, None, **COUNTS)
    assert kept_days(tables) == 3


def test_tables_without_anything_kept_are_asked_as_ever(tables: FilledTables) -> None:
    assert ClickhouseTables(tables.store.server).kept is None
    assert overview(tables, None)["totals"]["count"]["b"] == 60
