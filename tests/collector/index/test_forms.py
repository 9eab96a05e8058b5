"""What is worked out once for traces of one form is, for each of them, what is worked out of it alone."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from collector.index.rows import form
from collector.index.rows.rows import TraceRows, trace_rows
from collector.spans.conventions import ObservationKind
from collector.spans.values import SpanFacts, Tokens
from tests.support.indexed import made_trace

SEEDS = range(40)


@pytest.fixture(autouse=True)
def _forget() -> None:
    form._remembered.clear()


def rows_of(spans: Sequence[SpanFacts]) -> TraceRows:
    return trace_rows(spans, experiment=1, run_id=None, seen_unix_ns=1, preview_characters=100)


def rows_alone(spans: Sequence[SpanFacts]) -> TraceRows:
    form._remembered.clear()
    return rows_of(spans)


def another(spans: Sequence[SpanFacts], choose: random.Random) -> list[SpanFacts]:
    """A trace that may have the same form: with other ids, numbers and texts, in another order."""
    ids = {span.span_id: f"{choose.getrandbits(64) | 1:016x}" for span in spans}
    trace_id, later = f"{choose.getrandbits(128) | 1:032x}", choose.randrange(10**9)
    changed = [
        replace(
            span,
            trace_id=trace_id,
            span_id=ids[span.span_id],
            parent_span_id=ids.get(span.parent_span_id or "", span.parent_span_id),
            start_unix_ns=span.start_unix_ns + later,
            end_unix_ns=span.end_unix_ns + later + choose.randrange(1000),
            session=choose.choice((None, "s-8", "s-9")),
            user=choose.choice((None, "eve")),
            trace_name=choose.choice((None, None, "named")),
            cost_usd=None if span.cost_usd is None else choose.random(),
            error_message=span.error_message and f"failed {choose.randrange(99)} times",
        )
        for span in spans
    ]
    choose.shuffle(changed)
    return changed


# what may differ between two traces of else the same spans
CHANGES: dict[str, dict[str, Any]] = {
    "name": {"name": "another"},
    "kind": {"kind": ObservationKind.TOOL},
    "http": {"is_http": True},
    "roll_up": {"is_roll_up": True},
    "error": {"is_error": True, "error_type": "Oops", "error_message": "no"},
    "model": {"model": "another"},
    "agent": {"agent": "another"},
    "tool": {"tool": "another"},
    "own_tokens": {"tokens": Tokens(input=3, output=4, total=7)},
    "tokens_of_the_run": {"aggregated_tokens": Tokens(total=9)},
    "parts_of_tokens": {"tokens": Tokens(reasoning=9)},
    "cost": {"cost_usd": 0.5},
    "no_cost": {"cost_usd": None},
    "tags": {"tags": (("a", "b"),)},
    "finish_reason": {"finish_reason": "length"},
    "attempt": {"model_attempt": 0},
    "no_parent": {"parent_span_id": None},
    "missing_parent": {"parent_span_id": "00000000000000ff"},
    "service": {"service": "another"},
    "first": {"start_unix_ns": 1},
}


@pytest.mark.parametrize("seed", SEEDS)
def test_another_trace_of_a_form_has_the_rows_that_it_has_alone(seed: int) -> None:
    spans, choose = made_trace(seed), random.Random(seed)
    others = [another(spans, choose) for _ in range(5)]
    alone = [rows_alone(each) for each in others]
    rows_of(spans)
    assert [rows_of(each) for each in others] == alone


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_span_that_says_another_thing_makes_another_form(change: dict[str, Any]) -> None:
    for seed in SEEDS:
        spans = made_trace(seed)
        for place in range(len(spans)):
            changed = [*spans[:place], replace(spans[place], **change), *spans[place + 1 :]]
            alone = rows_alone(changed)
            form._remembered.clear()
            rows_of(spans)
            assert rows_of(changed) == alone


def test_traces_of_one_form_share_what_follows_from_it() -> None:
    spans = made_trace(1)
    assert rows_of(spans).repeated is rows_of([replace(span, user="eve") for span in spans]).repeated


def test_what_is_remembered_of_forms_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "MAX_REMEMBERED", 3)
    [span, *_] = made_trace(1)
    for number in range(10):
        rows_of([replace(span, name=f"name {number}")])
        assert len(form._remembered) <= 3
    form._remembered.clear()
    rows_of([replace(span, name="a" * (form.MAX_REMEMBERED_CHARACTERS + 1))])
    rows_of([replace(span, span_id=f"{n:016x}") for n in range(1, form.MAX_REMEMBERED_SPANS + 2)])
    assert not form._remembered
