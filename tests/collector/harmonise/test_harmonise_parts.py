"""A trace that arrives in several requests, and the notes that tie them together."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.harmonise.note import Note, Telling
from collector.harmonise.previews import Preview
from collector.spans.conventions import ObservationKind
from tests.support.harmonised import (
    AGENT,
    CHAT,
    TRACE,
    USED,
    WEB,
    as_mlflow_takes_it,
    attributes_of,
    in_requests,
    request,
    span,
)
from tests.support.otlp import all_spans
from tests.support.spans import payload

PARTED = [
    span(1, None, {**WEB, "session.id": "main", "enduser.id": "ann"}),
    span(2, 1, {**AGENT, "gen_ai.conversation.id": "run", "session.id": "run"}),
    span(3, 2, {**CHAT, **USED, "gen_ai.conversation.id": "run"}),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_a_trace_in_three_requests_comes_out_right_in_any_order(order: tuple[int, ...]) -> None:
    sent, _ = in_requests([[PARTED[number]] for number in order])
    assert as_mlflow_takes_it(sent) == {"name": "span 2", "session": "main", "user": "ann"}


@given(st.permutations(PARTED), st.sets(st.integers(1, 2)), st.booleans())
def test_however_a_trace_is_cut_and_repeated_it_comes_out_right(
    spans: list[Span], cuts: set[int], again: bool
) -> None:
    edges = [0, *sorted(cuts), len(spans)]
    pieces = [spans[start:end] for start, end in itertools.pairwise(edges)]
    sent, _ = in_requests(pieces + pieces if again else pieces)
    assert as_mlflow_takes_it(sent) == {"name": "span 2", "session": "main", "user": "ann"}


def test_a_whole_trace_without_model_calls_leaves_no_note() -> None:
    _, notes = in_requests([[PARTED[1], PARTED[0]]])
    assert notes == {}


def test_a_whole_trace_leaves_its_model_calls() -> None:
    """Another instrumentation, with an exporter of its own, may tell of one of them later."""
    _, notes = in_requests([[PARTED[2], PARTED[1], PARTED[0]]])
    note = Note.from_bytes(notes[TRACE])
    assert [each.facts.kind for each in note.seen] == [ObservationKind.LLM]
    large = {f"x{number}": "y" for number in range(30)}
    _, notes = in_requests([[span(2, 1, {**CHAT, **USED, **large}), PARTED[0]]])
    assert Note.from_bytes(notes[TRACE]).calls == ("02" * 8,)
    assert (note.root, len(notes[TRACE]) < 1500) == (None, True)


def test_a_root_is_sent_once_more_only_for_what_it_was_waiting_for() -> None:
    sent, _ = in_requests([[PARTED[0]], [span(4, 1, {})], [PARTED[1]], [PARTED[2]]])
    assert [len(all_spans(export)) for export in sent] == [1, 1, 2, 1]


def test_an_agents_own_usage_is_left_out_when_its_calls_came_earlier() -> None:
    own = {**AGENT, "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1}
    sent, _ = in_requests([[span(2, 1, {**CHAT, **USED})], [span(1, None, own)]])
    assert attributes_of(all_spans(sent[1])[0])["mlflow.chat.tokenUsage"] == ""


NOTES = {
    "full": Note(
        session="s",
        conversation="c",
        user="u",
        telling=Telling(start_unix_ns=5, name="n"),
        preview=Preview(question=(5, "q"), answer=None),
        counted=True,
        root_seen=True,
        root=b"\x00\xff",
    ),
    "empty": Note(),
}


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES)
def test_a_note_reads_back_as_it_was_written(note: Note) -> None:
    assert Note.from_bytes(note.to_bytes()) == note


@given(st.binary(max_size=200))
def test_a_note_that_cannot_be_read_is_an_empty_one(content: bytes) -> None:
    assert isinstance(Note.from_bytes(content), Note)


def test_a_note_is_bounded() -> None:
    preview = Preview(question=(1, "q" * 10**6), answer=(2, "a" * 10**6))
    for root in (b"r" * 10**6, random.Random(1).randbytes(10_000), b"r" * 60_000):
        assert len(Note(preview=preview, root=root).to_bytes()) < 3000


def test_the_root_of_a_usual_web_request_is_kept_in_a_kilobyte() -> None:
    (root,) = [each for each in all_spans(payload("openai_openllmetry")) if not each.parent_span_id]
    content = request(root).resource_spans[0].SerializeToString()
    note = Note(root=content)
    assert len(note.to_bytes()) < 1024
    assert Note.from_bytes(note.to_bytes()).root == content
