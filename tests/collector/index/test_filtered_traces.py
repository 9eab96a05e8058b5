"""The table of traces: what a filter leaves, in pages and as a file."""

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

from collector.index.duckdb.store import Store
from collector.index.queries.models import TracePage
from collector.index.sql import answers
from collector.index.sql.answers import Export
from collector.spans.summary_models import TraceSummary
from collector.spans.values import SpanFacts
from tests.support.indexed import BEGIN_NS, NOW_NS, SECOND, SEEDS, ask, asked, made_trace, tables_of


@pytest.mark.parametrize(
    ("parameters", "meant"),
    [
        ({"status": "ERROR"}, lambda each: each.status == "ERROR"),
        ({"service": ["shop", "desk"]}, lambda each: True),
        ({"service": "sh*"}, lambda each: each.service == "shop"),
        ({"session": "s-1", "user": "ann"}, lambda each: each.session == "s-1" and each.user == "ann"),
        ({"model": "gpt-4o"}, lambda each: any(use.model == "gpt-4o" for use in each.models)),
        ({"model": "gpt"}, lambda each: False),
        ({"model": "gpt*"}, lambda each: any((use.model or "").startswith("gpt") for use in each.models)),
        ({"tool": "new\nline"}, lambda each: any(use.tool == "new\nline" for use in each.tools)),
        ({"provider": "openai"}, lambda each: any(use.provider == "openai" for use in each.models)),
        ({"experiment_id": "2"}, lambda each: each.experiment.id == "2"),
        ({"experiment_name": "shop"}, lambda each: each.experiment.id == "1"),
        ({"run_id": "run-1"}, lambda each: each.experiment.id == "1"),
        ({"version": "1.1"}, lambda each: each.service_version == "1.1"),
        ({"agent": "planner"}, lambda each: each.agent == "planner"),
        ({"min_duration_seconds": "5"}, lambda each: each.duration_seconds >= 5),
        ({"max_duration_seconds": "5"}, lambda each: each.duration_seconds <= 5),
        ({"min_cost_usd": "0.003"}, lambda each: (each.cost.usd or 0) >= 0.003),
        ({"since": "-30m"}, lambda each: each.start_unix_ns >= NOW_NS - 1800 * SECOND),
        ({"until": str(BEGIN_NS + 900 * SECOND)}, lambda each: each.start_unix_ns < BEGIN_NS + 900 * SECOND),
        ({"error": "city <n> not found"}, None),
        ({"tag": "tier=gold"}, None),
        ({"tag": "tier=a=b"}, None),
        ({"tag": "tier"}, None),
        ({"tag": "tie"}, None),
    ],
    ids=lambda given: "expected" if callable(given) else str(given),
)
def test_filters_leave_the_traces_that_are_meant(
    store: Store, summaries: list[TraceSummary], parameters: dict[str, Any], meant: Any
) -> None:
    if meant is None:
        meant = SPAN_MEANINGS[str(parameters)]
    expected = {each.trace_id for each in summaries if meant(each)}
    found = answers.traces(tables_of(store), asked(limit=1000, **parameters), Path())
    assert isinstance(found, dict)
    TracePage.model_validate(found)
    assert {row["trace_id"] for row in found["traces"]} == expected
    assert ask(store, metric="count", **parameters)["total"]["count"] == len(expected)


FACTS: dict[str, list[SpanFacts]] = {
    spans[0].trace_id: spans for seed in SEEDS if (spans := made_trace(seed))
}


def tags_of(each: TraceSummary) -> set[tuple[str, str]]:
    return {tag for span in FACTS[each.trace_id] for tag in span.tags}


def last_message(each: TraceSummary) -> str | None:
    failed = [error for error in each.errors if not error.recovered]
    telling = [error for error in failed if error.message] or failed
    return telling[-1].message if telling else None


SPAN_MEANINGS: Mapping[str, Callable[[TraceSummary], bool]] = {
    str({"error": "city <n> not found"}): lambda each: (last_message(each) or "").startswith("city"),
    str({"tag": "tier=gold"}): lambda each: ("tier", "gold") in tags_of(each),
    str({"tag": "tier=a=b"}): lambda each: ("tier", "a=b") in tags_of(each),
    str({"tag": "tier"}): lambda each: bool(tags_of(each)),
    str({"tag": "tie"}): lambda each: False,
}


@pytest.mark.parametrize(
    "sort", ["start", "-start", "-duration", "cost", "-tokens", "-spans", "name", "-errors"]
)
def test_pages_together_are_the_table_each_row_once(store: Store, sort: str) -> None:
    whole = answers.traces(tables_of(store), asked(limit=1000, sort=sort), Path())
    assert isinstance(whole, dict)
    rows: list[Any] = []
    cursor = None
    while True:
        page = answers.traces(
            tables_of(store), asked(limit=37, sort=sort, **({"cursor": cursor} if cursor else {})), Path()
        )
        assert isinstance(page, dict)
        rows += page["traces"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert rows == whole["traces"]
    assert len(rows) == len(SEEDS)


def exported(store: Store, folder: Path, **parameters: Any) -> bytes:
    found = answers.traces(tables_of(store), asked(**parameters), folder)
    assert isinstance(found, Export)
    content = b"".join(found.chunks())
    left = list(folder.iterdir()) if folder.exists() else []
    assert left == [], "the file is gone when it was sent"
    return content


def test_exports_hold_the_same_rows(store: Store, tmp_path: Path) -> None:
    table = answers.traces(tables_of(store), asked(limit=1000, sort="name"), tmp_path)
    assert isinstance(table, dict)
    text = exported(store, tmp_path / "csv", format="csv", sort="name").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["trace_id"] for row in rows] == [row["trace_id"] for row in table["traces"]]
    assert rows[0].keys() == table["traces"][0].keys()
    file = tmp_path / "traces.parquet"
    file.write_bytes(exported(store, tmp_path / "parquet", format="parquet", sort="name"))
    found = duckdb.sql(f"SELECT * FROM '{file}'")
    assert found.columns == list(table["traces"][0])
    assert [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()] == table["traces"]
    limited = exported(store, tmp_path / "csv", format="csv", service="shop", limit=5).decode()
    assert len(list(csv.reader(io.StringIO(limited)))) == 6
