"""Alerts over an index, a window after the other: what is told, stored and shown."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.alerts.definition import TROUBLE
from collector.alerts.evaluator import MAX_TIMEOUTS, Evaluator
from collector.alerts.replay import MAX_WINDOWS, replay, replay_windows
from collector.alerts.states import AlertEvent
from collector.answers.errors import AnswerUnavailable, IndexFailed
from collector.answers.rights import EVERYTHING
from collector.index.duckdb.store import Store
from collector.index.protocol import IndexAway, QueryKind
from collector.model.parameters import BadParameter
from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.values import SpanFacts, Tokens
from tests.support.alerting import (
    SECOND,
    Clock,
    IndexedAnswers,
    alert,
    counted,
    evaluator_over,
    store_in,
    waiting,
)
from tests.support.indexed import NOW_NS, put
from tests.support.indexed import store_in as index_in

FIRED, RECOVERED = AlertEvent.FIRED, AlertEvent.RECOVERED
WINDOW = 60
# the first window ends here
END = NOW_NS // (60 * SECOND) * 60 * SECOND


def call(window: int, number: int, **about: Any) -> list[SpanFacts]:
    """A trace in the window that ends `window` minutes after the first: an agent and its model call."""
    name = f"{window} {number} {about.get('user')} {about.get('service_version')} {about.get('model')}"
    choose = random.Random(name)
    start = END + (window - 1) * 60 * SECOND + number % 50 * SECOND
    trace = f"{choose.getrandbits(128) | 1:032x}"
    root = f"{choose.getrandbits(64) | 1:016x}"
    cost, failed = about.pop("cost_usd", 0.1), about.pop("is_error", False)
    lasts = about.pop("seconds", 1.0)
    message = about.pop("error_message", None)
    shared: dict[str, Any] = {
        "trace_id": trace,
        "start_unix_ns": start,
        "end_unix_ns": start + round(lasts * SECOND),
        **{key: about[key] for key in ("service", "service_version", "user") if key in about},
    }
    return [
        SpanFacts(
            **shared,
            span_id=root,
            name="invoke_agent planner",
            kind=ObservationKind.AGENT,
            agent="planner",
            is_error=failed,
            error_message=message if failed else None,
        ),
        SpanFacts(
            **shared,
            span_id=f"{choose.getrandbits(64) | 1:016x}",
            parent_span_id=root,
            name="chat",
            kind=ObservationKind.LLM,
            model=about.get("model", "gpt-4o"),
            tokens=Tokens(input=10, output=5, total=15),
            cost_usd=cost,
            cost_source=CostSource.CLIENT,
        ),
    ]


def calls(window: int, count: int, *, failing: int = 0, **about: Any) -> list[SpanFacts]:
    return [
        span for number in range(count) for span in call(window, number, is_error=number < failing, **about)
    ]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Store]:
    with index_in(tmp_path / "index") as store:
        yield store


async def events(evaluator: Evaluator, clock: Clock, windows: int) -> list[list[Any]]:
    """What is told of each of the next windows."""
    found = []
    for _ in range(windows):
        await evaluator.look()
        found.append([(each.event, dict(each.group)) for each in waiting(evaluator.store)])
        clock.pass_seconds(WINDOW)
    return found


@pytest.mark.parametrize(
    ("given", "spans", "told"),
    [
        pytest.param(
            {"metric": "error_rate", "above": 0.5},
            calls(0, 10, failing=2) + calls(1, 10, failing=6) + calls(2, 10, failing=5),
            [[], [(FIRED, {})], [(RECOVERED, {})]],
            id="error_rate",
        ),
        pytest.param(
            {"metric": "cost_usd", "by": ["user"], "above": 5},
            calls(0, 3, user="ann", cost_usd=1)
            + calls(1, 6, user="ann", cost_usd=1)
            + calls(1, 6, user="bob"),
            [[], [(FIRED, {"user": "ann"})], [(RECOVERED, {"user": "ann"})]],
            id="cost_per_user",
        ),
        pytest.param(
            {"of": "models", "metric": "duration_seconds_p95", "by": ["model"], "above": 5},
            calls(0, 9) + calls(1, 9, seconds=9) + calls(1, 9, model="mini") + calls(2, 9, seconds=2),
            [[], [(FIRED, {"model": "gpt-4o"})], [(RECOVERED, {"model": "gpt-4o"})]],
            id="p95_per_model",
        ),
        pytest.param(
            {"metric": "cost_usd", "compare_with": "previous-window", "above": 2},
            calls(0, 5) + calls(1, 5) + calls(2, 11) + calls(3, 11),
            [[], [], [(FIRED, {})], [(RECOVERED, {})]],
            id="twice_the_window_before",
        ),
        pytest.param(
            {
                "metric": "error_rate",
                "compare_with": "version",
                "compare_by": "difference",
                "baseline_version": "1",
                "filters": {"version": "2"},
                "above": 0.25,
            },
            calls(0, 10, failing=1, service_version="1")
            + calls(0, 10, failing=2, service_version="2")
            + calls(1, 10, failing=1, service_version="1")
            + calls(1, 10, failing=5, service_version="2"),
            [[], [(FIRED, {})]],
            id="worse_than_another_version",
        ),
        pytest.param(
            {"metric": "error_rate", "above": 0.5, "min_sample": 5},
            calls(0, 2, failing=2) + calls(1, 5, failing=5),
            [[], [(FIRED, {})]],
            id="minimum_sample",
        ),
        pytest.param(
            {"metric": "count", "below": 3, "filters": {"service": "shop"}},
            calls(0, 3, service="shop") + calls(1, 2, service="shop") + calls(1, 9, service="desk"),
            [[], [(FIRED, {})], []],
            id="filters_and_below",
        ),
        pytest.param(
            {"metric": "error_rate", "by": ["user"], "above": 0.5, "no_data": "alert"},
            calls(0, 3, user="ann") + calls(2, 3, user="ann"),
            [[], [(FIRED, {})], [(RECOVERED, {})]],
            id="no_data_of_the_whole",
        ),
        pytest.param(
            {"metric": "error_rate", "above": 0.5, "for_seconds": 60},
            calls(0, 3, failing=3) + calls(1, 3, failing=3),
            [[], [(FIRED, {})], [(RECOVERED, {})]],
            id="for",
        ),
    ],
)
async def test_what_is_told_over_a_real_index(
    tmp_path: Path, index: Store, given: dict[str, Any], spans: list[SpanFacts], told: list[Any]
) -> None:
    put(index, spans)
    clock = Clock(END)
    each = alert(name="watched", **given)
    evaluator = evaluator_over(store_in(tmp_path), IndexedAnswers(index), each, clock=clock)
    assert await events(evaluator, clock, len(told)) == told

    async def ask(kind: QueryKind, parameters: Any) -> Any:
        return await evaluator._ask(kind, parameters)

    until = END + (len(told) - 1) * 60 * SECOND
    replayed = await replay(each, ask, since_unix_ns=END, until_unix_ns=until)
    flat = [(event.value, group) for window in told for event, group in window]
    assert [(each["event"], each["group"]) for each in replayed["events"]] == flat, (
        "the replay tells the same"
    )
    assert replayed["windows"] == len(told)


async def test_a_notice_has_figures_examples_and_filters_but_no_content(tmp_path: Path, index: Store) -> None:
    put(index, calls(0, 4, failing=3, user="ann", error_message="the secret word is swordfish"))
    clock = Clock(END)
    each = alert(
        name="failing", of="spans", metric="errors", by=["error"], above=1, filters={"agent": "planner"}
    )
    evaluator = evaluator_over(store_in(tmp_path), IndexedAnswers(index), each, clock=clock)
    await evaluator.look()
    from collector.alerts.notices import document_of

    notices = waiting(evaluator.store)
    (notice,) = [found for found in notices if found.group["error"]]
    assert notice.value == 3
    assert len(notice.trace_ids) == 3
    plain = document_of(notice, base_url="https://s.example.com", include_content=False)
    assert "swordfish" not in str(plain)
    assert plain["group"]["error"].startswith("error-")
    assert plain["link"].startswith("https://s.example.com/-/#/traces?agent=planner&sort=-errors&since=")
    assert plain["traces"][0]["link"] == f"https://s.example.com/-/#/trace/{notice.trace_ids[0]}"
    asked = document_of(notice, base_url="https://s.example.com", include_content=True)
    assert "swordfish" in asked["group"]["error"]
    assert "error=" in asked["link"]


@pytest.mark.parametrize(
    "error",
    [
        IndexAway("the index does not answer"),
        AnswerUnavailable("index", 1, "it takes too long"),
        IndexFailed("index", 500, "the index failed"),
        BadParameter("metric", "x", "there is no such score any more"),
        TimeoutError(),
        RuntimeError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_alert_that_cannot_be_evaluated_says_so_and_keeps_its_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    clock, answers = Clock(END), IndexedAnswers(None, answer=counted(11))
    evaluator = evaluator_over(
        store_in(tmp_path), answers, alert(name="busy"), clock=clock, unevaluated_seconds=600
    )
    await evaluator.look()
    assert [each.event for each in waiting(evaluator.store)] == [FIRED]
    answers.failing = error
    for _ in range(11):
        clock.pass_seconds(60)
        await evaluator.look()
    assert evaluator.states_of("busy"), "no data that can't be read is no recovery"
    assert evaluator.troubles["busy"]
    assert evaluator.metrics.alerts_failing._value.get() == 1
    assert caplog.text.count("an alert can't be evaluated") == 1
    (told,) = waiting(evaluator.store)
    assert (told.event, told.alert) == (FIRED, TROUBLE)
    assert "busy" in told.summary
    answers.failing = None
    clock.pass_seconds(60)
    await evaluator.look()
    assert [(each.event, each.alert) for each in waiting(evaluator.store)] == [(RECOVERED, TROUBLE)]
    assert evaluator.troubles["busy"] is None


async def test_a_bug_with_one_answer_does_not_silence_the_others(tmp_path: Path) -> None:
    class OneAnswerIsOdd(IndexedAnswers):
        async def ask(self, kind: QueryKind, parameters: Any, *, rights: Any) -> Any:
            if kind is QueryKind.TRACES:
                raise RuntimeError("a bug in the examples")
            self.answer = {"odd": 1} if parameters["of"] == ("spans",) else counted(11)
            return await super().ask(kind, parameters, rights=rights)

    alerts = (alert(name="odd", of="spans"), alert(name="busy"))
    evaluator = evaluator_over(store_in(tmp_path), OneAnswerIsOdd(None), *alerts, clock=Clock(END))
    await evaluator.look()
    assert [each.alert for each in waiting(evaluator.store)] == ["busy"]
    assert "bug" in str(evaluator.troubles["odd"])


async def test_an_alert_that_nobody_evaluates_is_no_silent_one(tmp_path: Path) -> None:
    clock = Clock(END)
    evaluator = evaluator_over(store_in(tmp_path), IndexedAnswers(None), alert(name="busy"), clock=clock)
    assert evaluator.troubles == {"busy": None}
    clock.pass_seconds(600)
    assert evaluator.troubles == {"busy": "it is overdue by 540 s"}


@pytest.mark.parametrize(
    ("lag_seconds", "trouble"),
    [
        pytest.param(31, "the index is 31 s behind", id="behind"),
        pytest.param(None, None, id="not_known_yet"),
    ],
)
async def test_an_index_that_lags_is_no_missing_data(
    tmp_path: Path, lag_seconds: float | None, trouble: str | None
) -> None:
    answers = IndexedAnswers(None, answer=counted(0))
    watched = alert(metric="count", below=1, delay_seconds=30)
    evaluator = evaluator_over(
        store_in(tmp_path), answers, watched, clock=Clock(END), lag_seconds=lag_seconds
    )
    await evaluator.look()
    assert answers.asked == []
    assert evaluator.troubles[watched.name] == trouble


async def test_an_answer_from_an_index_that_turns_out_to_lag_is_none(tmp_path: Path) -> None:
    answers = IndexedAnswers(None, answer=counted(0))
    watched = alert(metric="count", below=1, delay_seconds=30)
    evaluator = evaluator_over(store_in(tmp_path), answers, watched, clock=Clock(END))
    lags = iter([0.0, 0.0, 600.0])
    evaluator.lag_seconds = lambda: next(lags)
    await evaluator.look()
    assert (len(answers.asked), waiting(evaluator.store)) == (1, [])
    assert evaluator.troubles[watched.name] == "the index is 600 s behind"


async def test_a_clock_that_is_set_back_silences_nothing(tmp_path: Path) -> None:
    clock, answers = Clock(END), IndexedAnswers(None, answer=counted(11))
    each = alert(name="busy", repeat_seconds=120)
    evaluator = evaluator_over(store_in(tmp_path), answers, each, clock=clock)
    await evaluator.look()
    assert [found.event for found in waiting(evaluator.store)] == [FIRED]
    clock.pass_seconds(-86_400)
    for told in ([], [], ["repeated"]):
        await evaluator.look()
        assert [found.event.value for found in waiting(evaluator.store)] == told
        clock.pass_seconds(60)
    answers.failing = IndexAway("it starts")
    await evaluator.look()
    answers.failing, answers.answer = None, counted(1)
    clock.pass_seconds(-86_400)
    await evaluator.look()
    assert [found.event for found in waiting(evaluator.store)] == [RECOVERED]


async def test_examples_are_not_asked_of_an_index_that_is_too_slow(tmp_path: Path) -> None:
    class ExamplesAreSlow(IndexedAnswers):
        async def ask(self, kind: QueryKind, parameters: Any, *, rights: Any) -> Any:
            answer = await super().ask(kind, parameters, rights=rights)
            if kind is QueryKind.TRACES:
                raise TimeoutError
            return answer

    answers = ExamplesAreSlow(None, answer=counted(11))
    alerts = [alert(name=f"busy {number}") for number in range(8)]
    evaluator = evaluator_over(store_in(tmp_path), answers, *alerts, clock=Clock(END))
    await evaluator.look()
    assert len(waiting(evaluator.store)) == 8
    assert sum("sort" in asked for asked in answers.asked) == MAX_TIMEOUTS


async def test_a_restart_neither_repeats_nor_forgets(tmp_path: Path) -> None:
    clock, answers = Clock(END), IndexedAnswers(None, answer=counted(11))
    each = alert(name="busy")
    for told in ([FIRED], [], []):
        store = store_in(tmp_path)
        evaluator = evaluator_over(store, answers, each, clock=clock)
        await evaluator.look()
        assert [found.event for found in waiting(store)] == told
        store.close()
        clock.pass_seconds(60)
    answers.answer = counted(1)
    evaluator = evaluator_over(store_in(tmp_path), answers, each, clock=clock)
    await evaluator.look()
    (recovered,) = waiting(evaluator.store)
    assert recovered.event is RECOVERED
    assert recovered.started_unix_ns == END
    assert evaluator.states == {}


async def test_an_alert_that_is_removed_closes_what_it_opened(tmp_path: Path) -> None:
    clock, answers = Clock(END), IndexedAnswers(None, answer=counted(11))
    store = store_in(tmp_path)
    await evaluator_over(store, answers, alert(name="old"), clock=clock).look()
    (fired,) = waiting(store)
    evaluator = evaluator_over(store, answers, clock=clock)
    await evaluator._forget_removed()
    (ended,) = waiting(store)
    assert (ended.event, ended.incident) == (RECOVERED, fired.incident)
    assert "removed" in ended.summary


async def test_groups_by_other_dimensions_end_when_the_definition_changes(
    tmp_path: Path, index: Store
) -> None:
    put(index, calls(0, 20, user="ann") + calls(1, 20, user="ann"))
    clock, answers, store = Clock(END), IndexedAnswers(index), store_in(tmp_path)
    await evaluator_over(store, answers, alert(name="busy", by=["user"]), clock=clock).look()
    assert [(each.event, dict(each.group)) for each in waiting(store)] == [(FIRED, {"user": "ann"})]
    clock.pass_seconds(60)
    evaluator = evaluator_over(store, answers, alert(name="busy", by=["user", "agent"]), clock=clock)
    await evaluator.look()
    assert sorted(each.event.value for each in waiting(store)) == ["fired", "recovered"]


async def test_snoozing_survives_a_restart_and_ends(tmp_path: Path) -> None:
    clock, answers = Clock(END), IndexedAnswers(None, answer=counted(11))
    store = store_in(tmp_path)
    evaluator = evaluator_over(store, answers, alert(name="busy"), clock=clock)
    assert await evaluator.snooze("busy", 90) == END + 90 * SECOND
    await evaluator.look()
    clock.pass_seconds(60)
    evaluator = evaluator_over(store, answers, alert(name="busy"), clock=clock)
    await evaluator.look()
    assert waiting(store) == []
    assert evaluator.states_of("busy"), "the state is followed"
    clock.pass_seconds(60)
    await evaluator.look()
    assert [each.event for each in waiting(store)] == [FIRED]
    await evaluator.snooze("busy", 3600)
    await evaluator.snooze("busy", 0)
    assert evaluator.asleep_until("busy") is None


async def test_alerts_that_ask_the_same_cost_one_query(tmp_path: Path) -> None:
    answers = IndexedAnswers(None, answer=counted(1))
    alerts = [alert(name=f"over {number}", above=number) for number in range(5, 105)]
    await evaluator_over(store_in(tmp_path), answers, *alerts, clock=Clock(END)).look()
    assert len(answers.asked) == 1


async def test_an_index_that_is_too_slow_is_not_asked_more_and_more(tmp_path: Path) -> None:
    answers = IndexedAnswers(None, failing=TimeoutError())
    alerts = [alert(name=str(number), window_seconds=60 + number, every_seconds=60) for number in range(20)]
    evaluator = evaluator_over(store_in(tmp_path), answers, *alerts, clock=Clock(END))
    await evaluator.look()
    assert len(answers.asked) == 3
    assert all(evaluator.troubles.values())


async def test_a_lost_write_changes_nothing(tmp_path: Path) -> None:
    """The states in memory are those on disk: what was not stored has not happened."""
    clock, answers = Clock(END), IndexedAnswers(None, answer=counted(11))
    store = store_in(tmp_path)
    evaluator = evaluator_over(store, answers, alert(name="busy"), clock=clock)
    store.close()
    with pytest.raises(Exception, match="closed"):
        await evaluator.look()
    assert evaluator.states == {}
    evaluator.store = store_in(tmp_path)
    await evaluator.look()
    assert [each.event for each in waiting(evaluator.store)] == [FIRED], "the same window comes again"


def test_a_long_replay_takes_larger_steps() -> None:
    week = 7 * 86_400 * SECOND
    windows = replay_windows(alert(), since_unix_ns=END - week, until_unix_ns=END)
    assert len(windows.ends) <= MAX_WINDOWS
    assert windows.step_seconds == 660
    assert EVERYTHING.experiments is None


async def test_a_replay_keeps_no_more_events_than_it_shows() -> None:
    answers = [
        {
            "by": ["user"],
            "groups": [{"key": {"user": f"{n}"}, "values": {"count": count}} for n in range(400)],
        }
        for count in (11, 1, 11, 1)
    ]
    asked = iter(answers)

    async def ask(kind: QueryKind, parameters: Any) -> Any:
        return next(asked)

    of = alert(by=["user"], max_groups=400)
    replayed = await replay(of, ask, since_unix_ns=END, until_unix_ns=END + 3 * 60 * SECOND)
    assert (len(replayed["events"]), replayed["events_omitted"]) == (1000, 600)
    assert replayed["windows_firing"] == 2
