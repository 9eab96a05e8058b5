"""One group over time: what is told, and what isn't, whatever the verdicts."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.alerts.measurements import AlertVerdict
from collector.alerts.states import AlertEvent, GroupState, GroupStatus, Moment, advance, is_beyond
from collector.settings.alerts import AlertSettings
from tests.support.alerting import SECOND, alert

MINUTE = 60 * SECOND
CHANNELS = ("ops", "chat")
C, W, N, U = (
    AlertVerdict.CROSSED,
    AlertVerdict.WITHIN,
    AlertVerdict.NO_DATA,
    AlertVerdict.UNJUDGED,
)
FIRED, REPEATED, RECOVERED = AlertEvent.FIRED, AlertEvent.REPEATED, AlertEvent.RECOVERED


def told(
    of: AlertSettings, verdicts: Sequence[AlertVerdict], asleep: Sequence[bool] = ()
) -> list[AlertEvent | None]:
    """The event after each verdict, a minute apart."""
    events: list[AlertEvent | None] = []
    state: GroupState | None = None
    for number, verdict in enumerate(verdicts):
        moment = Moment(
            at_unix_ns=(number + 1) * MINUTE,
            channels=CHANNELS,
            is_asleep=number < len(asleep) and asleep[number],
        )
        state, event = advance(of, state, beyond=is_beyond(of, verdict), moment=moment)
        events.append(event)
    return events


@pytest.mark.parametrize(
    ("settings", "verdicts", "events"),
    [
        pytest.param({}, [W, C, C, W, W], [None, FIRED, None, RECOVERED, None], id="fires_and_recovers_once"),
        pytest.param({}, [C, W, C], [FIRED, RECOVERED, FIRED], id="fires_again_after_a_recovery"),
        pytest.param({"for_seconds": 120}, [C, C, C], [None, None, FIRED], id="waits_for_the_time"),
        pytest.param({"for_seconds": 120}, [C, C, W, C], [None] * 4, id="a_dip_begins_the_time_anew"),
        pytest.param(
            {"repeat_seconds": 120}, [C, C, C, C, C], [FIRED, None, REPEATED, None, REPEATED], id="repeats"
        ),
        pytest.param({"repeat_seconds": 0}, [C] * 500, [FIRED] + [None] * 499, id="never_repeats"),
        pytest.param({}, [C, N], [FIRED, RECOVERED], id="no_data_recovers"),
        pytest.param({"no_data": "keep"}, [C, N, N, W], [FIRED, None, None, RECOVERED], id="no_data_keeps"),
        pytest.param({"no_data": "keep"}, [N, U], [None, None], id="keeping_nothing_is_nothing"),
        pytest.param({"no_data": "alert"}, [W, N, W], [None, FIRED, RECOVERED], id="no_data_fires"),
        pytest.param({"no_data": "alert"}, [C, U, W], [FIRED, None, RECOVERED], id="too_few_is_not_no_data"),
        pytest.param({}, [C, U], [FIRED, RECOVERED], id="too_few_recovers"),
    ],
)
def test_what_is_told(
    settings: dict[str, object], verdicts: Sequence[AlertVerdict], events: list[object]
) -> None:
    assert told(alert(**settings), verdicts) == events


@pytest.mark.parametrize(
    ("asleep", "events"),
    [
        pytest.param([1, 1, 1, 1, 1], [None] * 5, id="asleep_all_the_time_tells_nothing"),
        pytest.param(
            [0, 1, 1, 1, 1], [FIRED, None, None, RECOVERED, None], id="a_recovery_closes_what_was_opened"
        ),
        pytest.param([1, 1, 0, 0, 0], [None, None, FIRED, RECOVERED, None], id="tells_when_it_wakes_up"),
        pytest.param([0, 0, 1, 0, 0], [FIRED, None, None, RECOVERED, None], id="sleeps_while_it_fires"),
    ],
)
def test_an_alert_that_sleeps(asleep: list[int], events: list[object]) -> None:
    assert told(alert(), [C, C, C, W, W], [bool(each) for each in asleep]) == events


def test_who_was_told_is_remembered_with_the_state() -> None:
    moment = Moment(at_unix_ns=MINUTE, channels=CHANNELS)
    state, _ = advance(alert(), None, beyond=True, moment=moment)
    assert state is not None
    assert state.status is GroupStatus.FIRING
    assert state.told == CHANNELS


ALERTS = st.builds(
    alert,
    for_seconds=st.sampled_from([0, 60, 150]),
    repeat_seconds=st.sampled_from([0, 60, 180]),
    no_data=st.sampled_from(["ok", "keep", "alert"]),
)
STEPS = st.lists(st.tuples(st.sampled_from(list(AlertVerdict)), st.booleans()), max_size=40)


@given(of=ALERTS, steps=STEPS)
def test_each_firing_is_told_once_and_so_is_its_end(
    of: AlertSettings, steps: list[tuple[AlertVerdict, bool]]
) -> None:
    events = [event for event in told(of, [each[0] for each in steps], [each[1] for each in steps]) if event]
    is_open = False
    for event in events:
        assert (event is FIRED) == (not is_open), (
            "fired only when nothing is open, the others only when it is"
        )
        is_open = event is not RECOVERED


@given(of=ALERTS, steps=STEPS)
def test_nothing_but_a_recovery_is_told_while_it_sleeps(
    of: AlertSettings, steps: list[tuple[AlertVerdict, bool]]
) -> None:
    asleep = [each[1] for each in steps]
    events = told(of, [each[0] for each in steps], asleep)
    assert {event for event, sleeps in zip(events, asleep, strict=True) if sleeps} <= {None, RECOVERED}


@given(of=ALERTS, steps=STEPS, cut=st.integers(0, 40))
def test_a_window_that_comes_again_changes_nothing(
    of: AlertSettings, steps: list[tuple[AlertVerdict, bool]], cut: int
) -> None:
    """As after a crash: the state was stored, and the same window is evaluated once more."""
    state: GroupState | None = None
    for number, (verdict, sleeps) in enumerate(steps):
        moment = Moment(at_unix_ns=(number + 1) * MINUTE, channels=CHANNELS, is_asleep=sleeps)
        state, _ = advance(of, state, beyond=is_beyond(of, verdict), moment=moment)
        again, event = advance(of, state, beyond=is_beyond(of, verdict), moment=moment)
        if number == cut:
            assert (again, event) == (state, None)
