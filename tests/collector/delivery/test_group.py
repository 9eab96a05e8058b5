"""Entries into requests: no trace over two, nothing lost, nothing out of order."""

from hypothesis import given
from hypothesis import strategies as st

from collector.delivery.group import Request, group
from collector.model.batch import Entry, Position


def entry(sequence: int, traces: set[int], size: int = 10, client: str = "") -> Entry:
    return Entry(
        position=Position(sequence),
        received_unix_ns=sequence * 100,
        lane="l",
        payload=sequence.to_bytes(4, "big") * size,
        span_count=len(traces),
        trace_ids=frozenset(trace.to_bytes(16, "big") for trace in traces),
        client=client,
    )


windows = st.lists(
    st.tuples(st.sets(st.integers(0, 12), min_size=1, max_size=4), st.integers(1, 50)), max_size=20
).map(lambda rows: [entry(n + 1, traces, size) for n, (traces, size) in enumerate(rows)])


def sequences(request: Request) -> list[int]:
    """Which entries a request is made of; each payload is its entry's number, repeated."""
    numbers = [int.from_bytes(request.payload[i : i + 4], "big") for i in range(0, len(request.payload), 4)]
    return list(dict.fromkeys(numbers))


@given(windows, st.integers(1, 1000), st.none() | st.integers(1, 20))
def test_every_entry_is_in_exactly_one_request(
    window: list[Entry], request_bytes: int, max_traces: int | None
) -> None:
    requests = group(window, request_bytes=request_bytes, max_traces=max_traces)
    assert sorted(number for r in requests for number in sequences(r)) == [e.position.token for e in window]
    assert sum(len(r.payload) for r in requests) == sum(len(e.payload) for e in window)
    assert sum(r.span_count for r in requests) == sum(e.span_count for e in window)


@given(windows, st.integers(1, 1000), st.none() | st.integers(1, 20))
def test_no_two_requests_share_a_trace(
    window: list[Entry], request_bytes: int, max_traces: int | None
) -> None:
    requests = group(window, request_bytes=request_bytes, max_traces=max_traces)
    ids = [trace_id for request in requests for trace_id in request.trace_ids]
    assert len(ids) == len(set(ids))
    assert set(ids) == {trace_id for each in window for trace_id in each.trace_ids}


@given(windows, st.integers(1, 1000))
def test_a_traces_entries_stay_in_the_order_of_the_log(window: list[Entry], request_bytes: int) -> None:
    for request in group(window, request_bytes=request_bytes):
        for trace_id in request.trace_ids:
            held = [n for n in sequences(request) if trace_id in window[n - 1].trace_ids]
            assert held == sorted(held)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 1000))
def test_entries_without_common_traces_keep_to_the_bound(count: int, size: int, request_bytes: int) -> None:
    window = [entry(n, {n}, size) for n in range(1, count + 1)]
    for request in group(window, request_bytes=request_bytes):
        assert len(request.payload) <= request_bytes or len(sequences(request)) == 1


def test_a_chain_of_common_traces_goes_together_however_large() -> None:
    window = [entry(1, {1, 2}), entry(2, {9}), entry(3, {2, 3}), entry(4, {3, 4})]
    requests = group(window, request_bytes=1)
    assert [sequences(request) for request in requests] == [[1, 3, 4], [2]]


def test_small_entries_travel_together_up_to_the_bounds() -> None:
    window = [entry(n, {n}) for n in range(1, 8)]
    assert len(group(window, request_bytes=10_000)) == 1
    assert [len(sequences(r)) for r in group(window, request_bytes=80)] == [2, 2, 2, 1]
    assert [len(sequences(r)) for r in group(window, request_bytes=10_000, max_traces=3)] == [3, 3, 1]


def test_a_request_has_the_age_of_its_oldest_entry_and_a_client_only_if_it_is_one() -> None:
    (one,) = group([entry(2, {1}, client="a"), entry(3, {2}, client="a")], request_bytes=1000)
    assert (one.received_unix_ns, one.client) == (200, "a")
    (two,) = group([entry(2, {1}, client="a"), entry(3, {2}, client="b")], request_bytes=1000)
    assert two.client == ""


def test_nothing_makes_no_request() -> None:
    assert group([], request_bytes=1) == []
