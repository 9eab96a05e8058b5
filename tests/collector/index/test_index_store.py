"""The index: the same content whatever the order, the batches and the repeats; and how it starts."""

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.index.duckdb.shard import write_rows
from collector.index.duckdb.store import FILE_NAME, Store
from collector.index.protocol import NOTHING_DELIVERED, Delivered
from collector.index.rows.columns import FACT_COLUMNS, SPAN_COLUMNS, TRACE_COLUMNS, Column
from collector.index.rows.form import values_of
from collector.index.rows.gathered import Gathered, Piece, share_out
from collector.index.rows.records import TraceOfSpan
from collector.index.rows.rows import facts_of_row, trace_rows
from collector.index.sql.columns import SEPARATOR
from collector.model.experiment import ExperimentReference
from collector.spans.conventions import ObservationKind
from collector.spans.error_groups import normal_message
from collector.spans.facts import export_facts
from collector.spans.labels import TraceLabels
from collector.spans.score_facts import ScoreFact
from collector.spans.summary import summarise
from collector.spans.values import SpanFacts, Tokens
from collector.spans.wire import Export
from tests.support.indexed import (
    content,
    made_scores,
    made_spans,
    made_trace,
    put,
    put_scores,
    store_in,
)
from tests.support.otlp import DATA
from tests.support.spans import payload, spanfacts

PAYLOADS = sorted(path.stem for path in DATA.glob("*.binpb"))
NAMES = [column.name for column in SPAN_COLUMNS]


def again(row: Any) -> SpanFacts:
    """The facts that a row was made from."""
    first = NAMES.index(FACT_COLUMNS[0].name)
    rest = (row[NAMES.index(name)] for name in ("tags", "links", "error_message", "own_facts"))
    facts = row[first : first + len(FACT_COLUMNS)]
    return facts_of_row(row[1], row[2], row[3], (*facts, *rest))


def test_a_record_that_differs_from_its_table_stops_the_start() -> None:
    columns = [Column("tags", "VARCHAR")]
    with pytest.raises(TypeError, match="TraceOfSpan differs from its table"):
        values_of(TraceOfSpan, columns)


def test_rows_hold_the_columns_of_their_tables_in_order() -> None:
    spans = made_trace(3)
    rows = trace_rows(spans, experiment=7, run_id="run", seen_unix_ns=1, preview_characters=9)
    trace = dict(zip((column.name for column in TRACE_COLUMNS), rows.trace, strict=True))
    assert (trace["experiment"], trace["run_id"], trace["span_count"]) == (7, "run", len(spans))
    for row in rows.spans:
        span = dict(zip(NAMES, row, strict=True))
        ids = (span["experiment"], span["trace_id"], span["of_run"], span["of_trace"])
        assert ids == (7, spans[0].trace_id, "run", trace["name"])
    assert NAMES[:4] == ["experiment", "trace_id", "span_id", "parent_span_id"]


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_row_holds_all_facts_of_its_span(name: str) -> None:
    spans = list(export_facts(payload(name)))
    rows = trace_rows(spans, experiment=1, run_id=None, seen_unix_ns=1, preview_characters=1000)
    assert {again(row) for row in rows.spans} == set(spans)


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_same_bytes_with_encoded_attributes_give_the_same_facts(name: str) -> None:
    export = payload(name)
    assert list(export_facts(Export.FromString(export.SerializeToString()))) == list(export_facts(export))


def test_of_an_attribute_that_is_there_twice_the_last_counts_in_both_readings() -> None:
    export = payload("pydantic_ai_v5_plain")
    span = export.resource_spans[0].scope_spans[0].spans[0]
    for model in ("first", "last"):
        span.attributes.add(key="gen_ai.response.model").value.string_value = model
    found = list(export_facts(Export.FromString(export.SerializeToString())))
    assert found == list(export_facts(export))
    assert "last" in {each.model for each in found}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_trace_read_back_from_the_index_has_the_same_summary(name: str, tmp_path: Path) -> None:
    spans = list(export_facts(payload(name)))
    before = summarise(spans, trace_id=spans[0].trace_id)
    with store_in(tmp_path) as store:
        put(store, spans)
        [stored] = store.stored([(1, spans[0].trace_id)]).values()
    assert summarise(stored.spans, trace_id=spans[0].trace_id) == before


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False), batches=st.integers(1, 6))
def test_late_shuffled_and_repeated_spans_end_in_what_each_span_once_ends_in(
    seed: int, order: random.Random, batches: int
) -> None:
    spans = made_spans(range(seed, seed + 8))
    sent = [*spans, *order.sample(spans, len(spans) // 2)]
    order.shuffle(sent)
    cuts = sorted(order.randrange(len(sent) + 1) for _ in range(batches - 1))
    with TemporaryDirectory() as folder:
        with store_in(Path(folder) / "once") as store:
            put(store, spans)
            expected = content(store)
        with store_in(Path(folder) / "many") as store:
            for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
                put(store, sent[begin:end])
            found = content(store)
    assert found == expected
    assert len(expected[1]) == len(spans)


def test_text_of_every_kind_comes_back_as_it_was(tmp_path: Path) -> None:
    texts = [
        '"',
        "a,b",
        "line\nline",
        "\r\n",
        "tab\t",
        "\x00nul",
        "ünïcödé 🎉",
        "'",
        "''",
        "\\",
        "NULL",
        '""',
    ]
    spans = [
        replace(made_trace(number)[0], name=text, tool=text, error_message=text, is_error=True)
        for number, text in enumerate(texts)
    ]
    with store_in(tmp_path) as store:
        put(store, spans)
        found = store.stored([(1, span.trace_id) for span in spans])
    assert {(each.spans[0].name, each.spans[0].tool) for each in found.values()} == {(t, t) for t in texts}


def test_a_lone_surrogate_costs_itself_only(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        put(store, [replace(made_trace(1)[0], user="\ud800")])
        assert store.counts() == (1, 1)


def test_the_same_trace_id_in_two_experiments_is_two_traces(tmp_path: Path) -> None:
    spans = made_trace(3)
    with store_in(tmp_path) as store:
        put(store, spans, experiment=ExperimentReference(id="1"))
        put(store, spans[:1], experiment=ExperimentReference(id="2"))
        assert store.counts() == (2, len(spans) + 1)


def test_an_experiment_known_by_name_becomes_the_one_with_its_id(tmp_path: Path) -> None:
    first, second, shared = made_trace(1), made_trace(2), made_trace(5)
    with store_in(tmp_path / "joined") as store:
        put(store, [*first, *shared[:1]], experiment=ExperimentReference(name="shop"))
        put(store, [*second, *shared[1:]], experiment=ExperimentReference(id="7"))
        assert {(each.id, each.name) for each in store.unnamed()} == {(None, "shop"), ("7", None)}
        number = store.number_of(ExperimentReference(id="7", name="shop"))
        joined = content(store)
        assert store.unnamed() == []
    with store_in(tmp_path / "plain") as store:
        assert store.number_of(ExperimentReference(name="other")) == 1  # so that the numbers are the same
        put(store, [*first, *second, *shared], experiment=ExperimentReference(id="7", name="shop"))
        assert number == 2
        assert joined == content(store)


def test_what_is_too_old_leaves_and_what_is_too_much_too(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        for seen in (10, 20, 30):
            trace = made_trace(seen)
            key = (store.number_of(ExperimentReference(id="1")), trace[0].trace_id)
            found = {key: Gathered(spans=trace, seen_unix_ns=seen)}
            store.put([write_rows(found, into=tmp_path, name="x", preview_characters=9)], {})
        assert store.forget(seen_before_unix_ns=15, max_bytes=2**40) == 1
        assert store.counts()[0] == 2
        assert store.forget(seen_before_unix_ns=0, max_bytes=1) == 1
        assert store.db.execute("SELECT list(seen_unix_ns) FROM traces").fetchone() == ([30],)


@pytest.mark.parametrize("damage", ["garbage", "other version"])
def test_a_file_that_cannot_be_used_is_set_aside(tmp_path: Path, damage: str) -> None:
    with store_in(tmp_path) as store:
        put(store, made_trace(1))
        if damage == "other version":
            store.db.execute("UPDATE meta SET schema_version = 0")
    if damage == "garbage":
        (tmp_path / FILE_NAME).write_bytes(b"no database" * 1000)
    with store_in(tmp_path) as store:
        assert store.counts() == (0, 0)
    assert list(tmp_path.glob(f"{FILE_NAME}.broken-*"))


HOLDER = """
import sys, duckdb
held = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another_process(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """As by the index's process of a service that was killed, until it sees that it is alone."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield holder
        finally:
            holder.kill()


def test_a_file_that_another_process_still_has_is_waited_for(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        put(store, made_trace(1))
        counts = store.counts()
    with held_by_another_process(tmp_path / FILE_NAME) as holder:
        assert holder.stdin is not None
        ending = threading.Timer(0.5, holder.stdin.close)
        ending.start()
        with store_in(tmp_path) as store:
            assert store.counts() == counts
        ending.join()
    assert not list(tmp_path.glob(f"{FILE_NAME}.broken-*"))


def test_a_file_that_another_process_keeps_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store_in(tmp_path) as store:
        put(store, made_trace(1))
        counts = store.counts()
    monkeypatch.setattr("collector.index.duckdb.held.HELD_SECONDS", 0.1)
    with held_by_another_process(tmp_path / FILE_NAME):
        with pytest.raises(BlockingIOError, match="another process has the index's file"), store_in(tmp_path):
            pass
    assert not list(tmp_path.glob(f"{FILE_NAME}.broken-*"))
    with store_in(tmp_path) as store:
        assert store.counts() == counts


def test_cursors_of_another_journal_are_worth_nothing(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.follow("one")
        store.put([], {"lane": 7})
        store.follow("one")
        assert store.cursors() == {"lane": 7}
        store.follow("two")
        assert store.cursors() == {}


def test_no_preview_means_no_message(tmp_path: Path) -> None:
    span = replace(made_trace(1)[0], is_error=True, error_message="secret 42", error_type="Oops")
    rows = trace_rows([span], experiment=1, run_id=None, seen_unix_ns=1, preview_characters=0)
    assert "secret" not in str(rows)
    assert "Oops" in str(rows)


def piece(sequence: int, *traces: int) -> Piece:
    return Piece(
        sequence=sequence,
        experiment=1,
        run_id=None,
        received_unix_ns=1,
        span_count=10,
        trace_ids=frozenset(number.to_bytes(16, "big") for number in traces),
    )


def test_entries_that_share_a_trace_are_in_one_share() -> None:
    pieces = [piece(1, 1), piece(2, 2), piece(3, 2, 3), piece(4, 4), piece(5, 3, 1), piece(6, 5)]
    shares = share_out(pieces, [1.0, 1.0])
    together = {frozenset(each.sequence for each in share) for share in shares}
    assert together == {frozenset({1, 2, 3, 5}), frozenset({4, 6})}


@given(st.lists(st.sets(st.integers(0, 12), min_size=1, max_size=3), max_size=25), st.integers(1, 4))
def test_no_trace_is_ever_in_two_shares(traces: list[set[int]], count: int) -> None:
    pieces = [piece(number, *each) for number, each in enumerate(traces)]
    shares = share_out(pieces, [1.0] * count)
    assert sorted(each.sequence for share in shares for each in share) == list(range(len(traces)))
    owners = [set().union(*(each.trace_ids for each in share)) for share in shares]
    assert sum(map(len, owners)) == len(set().union(*owners))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("city 4711 not found", "city 12 not found"),
        ("no user 'ann'", 'no user "bob"'),
        ("GET https://a.example/x?y=1 failed", "GET http://b.example failed"),
        ("request req-8f3a9c1b2d failed", "request req-00ffee1122 failed"),
        ("id 0af76519-16cd-43dd-8448-eb211c80319c", "id 11f76519-16cd-43dd-8448-eb211c803190"),
        ("at 2026-01-01T10:00:00Z: late", "at 2025-12-31 23:59:59: late"),
        ("10.0.0.1:8080 refused", "192.168.1.7:80 refused"),
        ("no file /var/lib/x.db", "no file /tmp/a/b.txt"),
        ("after 3.5e-7 s", "after 12 s"),
        ("mail ann@example.org", "mail bob@example.com"),
        ("RuntimeError: index unreachable", "index unreachable"),
        ("a.b.ToolError: ValueError: no", "no"),
    ],
)
def test_messages_that_differ_in_particulars_are_one_group(one: str, other: str) -> None:
    assert normal_message(one) == normal_message(other)


@pytest.mark.parametrize(
    ("one", "other"), [("rate limit reached", "context too long"), ("HTTP error", "HTTPS error"), ("a", "b")]
)
def test_messages_that_differ_in_words_are_not(one: str, other: str) -> None:
    assert normal_message(one) != normal_message(other)


@given(st.text(max_size=3000))
def test_any_text_has_a_bounded_group(text: str) -> None:
    assert len(normal_message(text)) <= 200


def as_version_2(store: Store) -> None:
    """Turn the file into what version 2 wrote."""
    for direction in ("input", "output"):
        for modality in ("text", "image", "audio", "video"):
            name = f"{modality}_{direction}_tokens"
            store.db.execute(f"ALTER TABLE traces DROP COLUMN {name}")
            store.db.execute(f"ALTER TABLE spans DROP COLUMN {name}")
            store.db.execute(f"ALTER TABLE spans DROP COLUMN aggregated_{name}")
    store.db.execute(
        "UPDATE spans SET own_facts = json_merge_patch(own_facts,"
        " json_object('tokens', json_array(9, 2, 11, NULL, NULL, NULL),"
        " 'aggregated_tokens', json_array(NULL, NULL, NULL, NULL, NULL, NULL))) WHERE own_facts IS NOT NULL"
    )
    store.db.execute("DROP TABLE scores")
    store.db.execute("UPDATE meta SET schema_version = 2")


def as_version_1(store: Store) -> None:
    """Make the file what version 1 had written."""
    as_version_2(store)
    for statement in (
        "UPDATE traces SET models = response_models, model_calls = 0",
        "ALTER TABLE traces DROP COLUMN response_models",
        "ALTER TABLE spans DROP COLUMN response_model",
        "ALTER TABLE spans DROP COLUMN own_facts",
        "DROP TABLE labels",
        "UPDATE meta SET schema_version = 1",
    ):
        store.db.execute(statement)


def trace_contents(store: Store) -> list[dict[str, Any]]:
    """The rows of traces, whatever the order of columns and of what is listed in one."""
    names = [column.name for column in TRACE_COLUMNS]
    columns = ", ".join(f'"{name}"' for name in names)
    rows = store.db.execute(f"SELECT {columns} FROM traces ORDER BY trace_id").fetchall()
    return [
        {
            name: set(value.split(SEPARATOR)) if name.endswith("models") and value else value
            for name, value in zip(names, row, strict=True)
        }
        for row in rows
    ]


def test_an_index_of_version_1_is_brought_up_to_date_with_all_it_holds(tmp_path: Path) -> None:
    failed = spanfacts("b" * 16, None, ObservationKind.LLM, is_error=True, model="m", request_model="m")
    answered = spanfacts("c" * 16, "b" * 16, ObservationKind.LLM, model="m-2024", request_model="m")
    with store_in(tmp_path) as store:
        put(store, [*made_spans(range(20)), replace(failed, parent_span_id="d" * 16), answered])
        before = trace_contents(store)
        as_version_1(store)
    with store_in(tmp_path) as store:
        assert trace_contents(store) == before
        put(store, made_trace(99))
        assert store.counts()[0] == 22
    assert not list(tmp_path.glob(f"{FILE_NAME}.broken-*"))


def test_an_index_of_version_2_learns_to_count_by_modality(tmp_path: Path) -> None:
    outer = spanfacts("b" * 16, None, ObservationKind.LLM, tokens=Tokens(input=9, output=2, total=11))
    inner = spanfacts("c" * 16, "b" * 16, ObservationKind.LLM, tokens=Tokens(input=9, output=2, total=11))
    with store_in(tmp_path) as store:
        put(store, [*made_spans(range(20)), outer, inner])
        before = trace_contents(store)
        as_version_2(store)
    spoken = Tokens(input=9, output=2, total=11, audio_input=7, audio_output=1)
    with store_in(tmp_path) as store:
        assert trace_contents(store) == before
        put(store, [spanfacts("d" * 16, None, ObservationKind.LLM, tokens=spoken)])  # beside what is there
        found = store.db.execute(
            "SELECT input_tokens, audio_input_tokens, audio_output_tokens, text_input_tokens FROM traces"
            " WHERE audio_input_tokens > 0"
        ).fetchall()
        assert found == [(18, 7, 1, None)]


@pytest.mark.parametrize("order", [(0, 1, 0), (1, 0)], ids=["newer_reading_last", "newer_reading_first"])
def test_facts_that_a_newer_version_reads_come_when_a_span_is_indexed_again(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    tokens = Tokens(input=9, output=2, total=11)
    read = [
        spanfacts("b" * 16, None, ObservationKind.LLM, tokens=each)
        for each in (tokens, replace(tokens, audio_input=7))
    ]
    with store_in(tmp_path) as store:
        for each in order:
            put(store, [read[each]])
        found = store.db.execute("SELECT input_tokens, audio_input_tokens FROM traces").fetchall()
    assert found == [(9, 7)]


def test_an_index_of_version_2_is_brought_up_to_date_and_takes_scores(tmp_path: Path) -> None:
    scores = made_scores(6)
    with store_in(tmp_path) as store:
        put(store, made_spans(range(20)))
        before = trace_contents(store)
        as_version_2(store)
    with store_in(tmp_path) as store:
        assert trace_contents(store) == before
        put_scores(store, scores)
        assert keys_of_scores(store) == [score.key for score in scores] != []
    assert not list(tmp_path.glob(f"{FILE_NAME}.broken-*"))


def keys_of_scores(store: Store) -> list[str]:
    return [key for (key,) in store.db.execute("SELECT key FROM scores ORDER BY key").fetchall()]


def test_scores_leave_with_their_trace_and_without_one_by_their_own_age_or_size(tmp_path: Path) -> None:
    scored, alone = made_scores(6), made_scores(13)
    with store_in(tmp_path) as store:
        put(store, made_trace(6))
        put_scores(store, scored, seen_unix_ns=50)
        put_scores(store, alone, seen_unix_ns=10)
        assert store.forget(seen_before_unix_ns=0, max_bytes=2**40) == 0
        assert len(keys_of_scores(store)) == len(scored) + len(alone)
        assert store.forget(seen_before_unix_ns=2, max_bytes=2**40) == 1
        assert keys_of_scores(store) == [score.key for score in alone]
        store.forget(seen_before_unix_ns=0, max_bytes=1)
        assert keys_of_scores(store) == []


def test_a_score_that_is_older_than_its_trace_stays_with_it(tmp_path: Path) -> None:
    """Clients may say any time."""
    with store_in(tmp_path) as store:
        put(store, made_trace(6))
        put_scores(store, made_scores(6), seen_unix_ns=0)
        assert store.forget(seen_before_unix_ns=1, max_bytes=2**40) == 0
        assert len(keys_of_scores(store)) == len(made_scores(6))


def test_scores_move_with_their_experiment_and_count_once(tmp_path: Path) -> None:
    by_name, by_id = ExperimentReference(name="shop"), ExperimentReference(id="7")
    scores = made_scores(6)
    with store_in(tmp_path) as store:
        put_scores(store, scores, experiment=by_name)
        put_scores(store, scores[:1], experiment=by_id)
        number = store.number_of(ExperimentReference(id="7", name="shop"))
        assert keys_of_scores(store) == [score.key for score in scores]
        assert store.db.execute("SELECT DISTINCT experiment FROM scores").fetchall() == [(number,)]


MINE, THEIRS = (replace(made_scores(6)[0], key=key) for key in ("mine", "theirs"))
TRACE_KEY = (1, MINE.trace_id)


@pytest.mark.parametrize(
    ("delivered", "said", "left"),
    [
        pytest.param(NOTHING_DELIVERED, [THEIRS], {"mine": 0.5, "theirs": 1.0}, id="added"),
        pytest.param(NOTHING_DELIVERED, [], {"mine": 0.5}, id="may_be_on_its_way"),
        pytest.param(NOTHING_DELIVERED, [MINE], {"mine": 1.0}, id="changed"),
        pytest.param(Delivered(before_unix_ns=101), [], {}, id="deleted"),
        pytest.param(Delivered(before_unix_ns=100), [], {"mine": 0.5}, id="came_since_mlflow_was_asked"),
        pytest.param(
            Delivered(before_unix_ns=101, but=frozenset({MINE.trace_id})), [], {"mine": 0.5}, id="waits"
        ),
    ],
)
def test_of_scores_mlflow_has_the_last_word(
    tmp_path: Path, delivered: Delivered, said: list[ScoreFact], left: dict[str, float]
) -> None:
    sent = replace(MINE, value=0.5)
    with store_in(tmp_path) as store:
        put_scores(store, [sent], seen_unix_ns=100)
        store.put_scores({TRACE_KEY: [replace(each, value=1.0) for each in said]}, delivered)
        put_scores(store, [sent] if left else [], seen_unix_ns=200)
        assert dict(store.db.execute("SELECT key, value FROM scores").fetchall()) == left


def test_what_mlflow_no_longer_says_leaves(tmp_path: Path) -> None:
    with store_in(tmp_path) as store:
        store.number_of(ExperimentReference(id="1", name="shop"))
        store.put_scores({TRACE_KEY: [MINE, THEIRS]}, NOTHING_DELIVERED)
        store.put_scores({TRACE_KEY: [THEIRS]}, NOTHING_DELIVERED)
        assert keys_of_scores(store) == ["theirs"]


def test_labels_hold_for_spans_that_come_later_and_leave_with_their_trace(tmp_path: Path) -> None:
    labels = TraceLabels(session="mine", user="ann", tags=(("plan", "gold"), ("tier", "blue")))
    spans = [replace(span, session=None, user=None, tags=(("tier", "red"),)) for span in made_trace(3)]
    with store_in(tmp_path) as store:
        key = (store.number_of(ExperimentReference(id="1", name="shop")), spans[0].trace_id)
        store.put_labels({key: labels}, seen_unix_ns=1)
        put(store, spans[:1])
        put(store, spans)
        rows = store.db.execute('SELECT session, "user", tags FROM traces').fetchall()
        assert rows == [("mine", "ann", "\x1fplan=gold\x1ftier=blue\x1f")]
        assert store.forget(seen_before_unix_ns=2, max_bytes=2**40) == 1
        assert store.db.execute("SELECT count(*) FROM labels").fetchone() == (0,)
