"""What waits for a slow reader: bounded, in order, and every event is either told or counted as missed."""

import json
import re
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as some

from collector.index.protocol import ChangedTrace
from collector.live.backlog import Backlog, Chunk
from collector.live.frames import heartbeat, missed_event, opening, parse_position, trace_events

FRAME = re.compile(rb"event: (\w+)\n(?:id: (\d+)\n)?data: ([^\n]*)\n\n")


def told(data: bytes) -> Iterator[int | str]:
    """Positions of events, and `missed N` where some are left out."""
    for kind, id, body in FRAME.findall(data):
        yield int(id) if kind == b"trace" else f"missed {json.loads(body)['missed']}"


def chunk_of(positions: list[int], missed: int | None = 0) -> Chunk:
    traces = [ChangedTrace(position=position, to=[0], body="{}") for position in positions]
    return Chunk(events=len(traces), data=trace_events(traces), missed=missed)


@given(
    some.lists(some.tuples(some.integers(0, 6), some.integers(0, 3), some.booleans()), max_size=40),
    some.integers(1, 12),
    some.integers(20, 400),
)
def test_every_event_is_told_or_counted_and_none_out_of_order(
    steps: list[tuple[int, int, bool]], max_events: int, max_bytes: int
) -> None:
    backlog, at, read, newest = Backlog(max_events, max_bytes), 0, [], 0
    for count, missed, takes in steps:
        first = at + missed
        chunk = chunk_of(list(range(first, first + count)), missed)
        backlog.add(chunk)
        at, newest = first + count, chunk.events or newest
        assert backlog.events <= max(max_events, newest)
        if takes:
            read += told(backlog.take())
            assert not backlog and (backlog.events, backlog.size_bytes) == (0, 0)
    read += told(backlog.take())
    expected = 0
    for each in read:
        if isinstance(each, int):
            assert each == expected
            expected += 1
        else:
            expected += int(each.removeprefix("missed "))
    assert expected == at


def test_an_unknown_number_stays_unknown() -> None:
    backlog = Backlog(max_events=1, max_bytes=1000)
    backlog.add(chunk_of([1], missed=None))
    backlog.add(chunk_of([2]))
    assert list(told(backlog.take())) == ["missed None", 2]


def test_what_was_missed_is_told_where_it_was_missed() -> None:
    backlog = Backlog(max_events=10, max_bytes=1000)
    backlog.add(chunk_of([1]))
    backlog.add(chunk_of([7], missed=5))
    assert list(told(backlog.take())) == [1, "missed 5", 7]


def test_a_chunk_larger_than_the_bounds_is_told_all_the_same() -> None:
    backlog = Backlog(max_events=1, max_bytes=1)
    backlog.add(chunk_of([1, 2, 3]))
    assert list(told(backlog.take())) == [1, 2, 3]


def test_frames_are_server_sent_events() -> None:
    assert opening(5) == b"retry: 1000\nid: 5\n\n"
    assert heartbeat(6) == b": heartbeat\nid: 6\n\n"
    assert missed_event(2) == b'event: missed\ndata: {"missed": 2}\n\n'
    assert chunk_of([7]).data == b"event: trace\nid: 7\ndata: {}\n\n"


def test_a_position_is_read_from_what_the_client_says() -> None:
    cases = {None: None, "": None, "12": 12, "x": 0, "-1": 0, "9" * 40: 0}
    assert {text: parse_position(text) for text in cases} == cases
