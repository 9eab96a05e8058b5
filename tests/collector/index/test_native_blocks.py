"""Blocks in ClickHouse's own format: what is written is what a server reads."""

from collections.abc import Sequence
from typing import Any

import pytest

from collector.index.clickhouse import native
from collector.index.clickhouse.rows import DAY_TYPES, SCORE_TYPES, SPAN_TYPES, TRACE_TYPES
from collector.index.clickhouse.server import ClickhouseServer as Connection
from collector.settings import ClickhouseSettings
from tests.support.clickhouse_server import ClickhouseStage

TEXTS = ["a", "", "ü\x00🎉", "a" * 300, "\\N", "a"]
MANY = [f"text {number}" for number in range(70_000)]
COLUMNS: dict[str, tuple[str, Sequence[Any], Sequence[Any]]] = {
    # type, values, values as they are read back
    "whole": ("Int64", [-1, 0, 2**63 - 1], [-1, 0, 2**63 - 1]),
    "short": ("Int32", [-1, 0, 2**31 - 1], [-1, 0, 2**31 - 1]),
    "too_large": ("Int32", [-(2**40), 0, 2**40], [-(2**31), 0, 2**31 - 1]),
    "count": ("UInt64", [0, 2**64 - 1], [0, 2**64 - 1]),
    "truth": ("Bool", [True, False], [True, False]),
    "number_or_null": ("Nullable(Int64)", [None, 5, None, 0], [None, 5, None, 0]),
    "never_null": ("Nullable(Int64)", [1, 2], [1, 2]),
    "only_null": ("Nullable(Int64)", [None, None], [None, None]),
    "count_or_null": ("Nullable(UInt64)", [None, 2**64 - 1], [None, 2**64 - 1]),
    "decimal": ("Nullable(Float64)", [None, 0.1, 1e300, 0.0], [None, 0.1, 1e300, 0.0]),
    "truth_or_null": ("Nullable(Bool)", [None, True, False], [None, True, False]),
    "id": ("UInt128", [(2**128 - 1).to_bytes(16, "little"), (5).to_bytes(16, "little")], [2**128 - 1, 5]),
    "text": ("String", TEXTS, TEXTS),
    "lone_surrogate": ("String", ["a\ud800"], ["a?"]),
    "text_or_null": ("Nullable(String)", [None, *TEXTS], [None, *(text or None for text in TEXTS)]),
    "no_text": ("Nullable(String)", [None, None], [None, None]),
    "few": ("LowCardinality(String)", TEXTS, TEXTS),
    "few_or_null": (
        "LowCardinality(Nullable(String))",
        [None, *TEXTS],
        [None, *(text or None for text in TEXTS)],
    ),
    "few_nulls": ("LowCardinality(Nullable(String))", [None, None], [None, None]),
    "more_than_256": ("LowCardinality(String)", MANY[:300] * 2, MANY[:300] * 2),
    "more_than_65536": ("LowCardinality(Nullable(String))", [*MANY, None], [*MANY, None]),
}


def test_every_column_of_the_tables_can_be_written() -> None:
    types = {type for table in (DAY_TYPES, SCORE_TYPES, SPAN_TYPES, TRACE_TYPES) for type in table.values()}
    assert types <= native.ENCODE.keys()


def test_a_block_names_its_columns_and_types() -> None:
    assert native.block({"a": "Int32", "b": "Nullable(String)"}, [[1, 2], [None, "x"]]) == (
        b"\x02\x02\x01a\x05Int32\x01\x00\x00\x00\x02\x00\x00\x00\x01b\x10Nullable(String)\x01\x00\x00\x01x"
    )


@pytest.mark.parametrize("columns", [[], [[], []]], ids=["no_columns", "no_values"])
def test_without_rows_there_is_no_block(columns: list[list[Any]]) -> None:
    assert native.block({"a": "Int32", "b": "Int32"}, columns) == b""


@pytest.mark.parametrize(("type", "values"), [each[:2] for each in COLUMNS.values()], ids=COLUMNS)
def test_a_column_of_few_values_is_written_as_any_other(type: str, values: Sequence[Any]) -> None:
    few = list(values[: native.MAX_CODED])
    places = bytes(number * 7 % len(few) for number in range(len(few) * 3))
    coded, plain = native.Coded(places, few), [few[place] for place in places]
    if type == "LowCardinality(String)" or "LowCardinality(Nullable" in type:
        # the order of the keys may be another
        plain = [*few, *plain]
        coded = native.Coded(bytes(range(len(few))) + places, few)
    assert native.block({"a": type}, [coded]) == native.block({"a": type}, [plain])


@pytest.mark.scale
def test_a_server_reads_what_was_written(clickhouse: ClickhouseStage) -> None:
    server = Connection(clickhouse.place(), ClickhouseSettings())
    for name, (type, values, told) in COLUMNS.items():
        server.command(
            f"CREATE TABLE {name} (place Int64, it {type}) ENGINE = MergeTree ORDER BY place"
            " SETTINGS allow_nullable_key = 1"
        )
        half = len(values) // 2
        # blocks may stand behind each other
        blocks = [
            native.block({"place": "Int64", "it": type}, [range(begin, end), values[begin:end]])
            for begin, end in ((0, half), (half, len(values)))
        ]
        server.insert(name, ["place", "it"], b"".join(blocks), format="Native")
        rows = server.rows(f"SELECT it FROM {name} ORDER BY place", final=False)
        assert [row[0] for row in rows] == list(told), name
        parts = "SELECT count() FROM system.parts WHERE active AND table = ? AND database = currentDatabase()"
        assert server.rows(parts, [name], final=False) == [(1,)], name
    server.close()
