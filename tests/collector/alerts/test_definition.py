"""What an alert may ask: checked at the start by the code that checks the API, and named with its place."""

from pathlib import Path
from typing import Any

import pytest

from collector.alerts.definition import SOME_UNIX_NS, check_alerts, question_of
from collector.alerts.questions import due, next_due, shared_questions, window_end
from collector.index.queries.stats import ENTITIES
from collector.model.errors import Misconfigured
from collector.settings import Settings, load
from tests.support.alerting import SECOND, alert

ROOT = Path(__file__).parents[3]
HOOK = '[alerting.channels.ops]\ntype = "webhook"\nurl = "http://127.0.0.1/"\n'


def refused(tmp_path: Path, text: str) -> str:
    file = tmp_path / "sidespan.toml"
    file.write_text(text)
    with pytest.raises(Misconfigured) as error:
        load(file=file, environment={}, checks=[check_alerts])
    return str(error.value).replace(str(file), "FILE")


ONE = '[[alerts]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            ONE + 'metric = "cots"\nabove = 1',
            "FILE: alerts.0.metric = 'cots': of traces there are count, errors",
        ),
        (
            ONE + 'metric = "count"\nof = "calls"\nabove = 1',
            "FILE: alerts.0.of = 'calls': must be one of traces",
        ),
        (
            ONE + 'metric = "count"\nby = ["users"]\nabove = 1',
            "FILE: alerts.0.by = 'users': of traces there are",
        ),
        (
            ONE + 'metric = "count"\nfilters = { toool = "x" }\nabove = 1',
            "FILE: alerts.0.filters.toool = 'toool': no such parameter; there are",
        ),
        (
            ONE + 'metric = "count"\nfilters = { since = "-1h" }\nabove = 1',
            "FILE: alerts.0.filters.since = '-1h': is not a filter of an alert",
        ),
        (
            ONE + 'metric = "count"\nfilters = { min_cost_usd = "x" }\nabove = 1',
            "FILE: alerts.0.filters.min_cost_usd = 'x': must be a number",
        ),
        (
            ONE + 'metric = "count"\nfilters = { user = [] }\nabove = 1',
            "FILE: alerts.0.filters.user = []: must name a value",
        ),
        (
            ONE
            + 'metric = "count"\nabove = 1\ncompare_with = "previous-window"\nfilters = { "a.user" = "x" }',
            "FILE: alerts.0.filters.a.user = 'x': is not a filter of an alert",
        ),
        (
            ONE + 'metric = "count"\nabove = nan',
            "FILE: alerts.0.above = nan: Input should be a finite number",
        ),
        (ONE + 'metric = "count"\nabove = 1\nevery_seconds = inf', "alerts.0.every_seconds = inf: Input"),
        (
            ONE + 'metric = "count"\nabove = 1\ndelay_seconds = 1e300',
            "alerts.0.delay_seconds = 1e+300: Input",
        ),
        ("[alerting]\nbackoff_max_seconds = inf", "alerting.backoff_max_seconds = inf: Input"),
        (
            '[[alerts]]\nname = "alerts can\'t be evaluated"\nmetric = "count"\nabove = 1',
            "alerts.0.name = \"alerts can't be evaluated\": is the name of Sidespan's own alert",
        ),
        (ONE + 'metric = "count"', "FILE: alerts.0 = "),
        (ONE + 'metric = "count"\nabove = 1\nbelow = 0', "give either above or below"),
        (ONE + 'metric = "count"\nabove = 1\nwindow = 3', "FILE: alerts.0.window = 3: Extra inputs"),
        (
            ONE + 'metric = "count"\nabove = 1\nchannels = ["ops"]',
            "FILE: alerts.0.channels = 'ops': no such channel",
        ),
        (
            ONE + 'metric = "count"\nabove = 1\ncompare_with = "version"',
            'baseline_version and compare_with = "version" need each other',
        ),
        (
            ONE + 'metric = "count"\nabove = 1\ncompare_with = "version"\nbaseline_version = "1"',
            "the filter version must name another version",
        ),
        (
            2 * (ONE + 'metric = "count"\nabove = 1\n'),
            "FILE: alerts.1.name = 'a': another alert has this name",
        ),
        (
            ONE + 'metric = "count"\nabove = 1\n[index]\nenabled = false',
            "FILE: index.enabled = False: alerts need",
        ),
        (
            ONE + 'metric = "count"\nabove = 1\n' + HOOK + 'type2 = "secret"',
            "FILE: alerting.channels.ops.webhook.type2: Extra inputs",
        ),
        ('[alerting.channels.ops]\ntype = "slack"', "give one of url, url_file and url_env"),
        ('[alerting.channels.ops]\ntype = "webhook"\nurl = "ftp://x"', "must be an http:// or https:// URL"),
    ],
    ids=lambda value: None,
)
def test_a_bad_alert_is_refused_with_its_place_in_the_file(tmp_path: Path, text: str, said: str) -> None:
    message = refused(tmp_path, text)
    assert said in message
    assert "secret" not in message


def test_every_metric_and_dimension_can_be_an_alert() -> None:
    alerts = [
        alert(name=f"{of} {metric} {by} {other}", of=of, metric=metric, by=[by], **comparing)
        for of, entity in ENTITIES.items()
        for metric in entity.metrics
        for by in entity.dimensions[:2]
        for other, comparing in (
            ("alone", {}),
            ("window", {"compare_with": "previous-window"}),
            (
                "version",
                {"compare_with": "version", "baseline_version": "1", "filters": {"version": "2"}},
            ),
        )
    ]
    assert len(alerts) > 300
    check_alerts(Settings(alerts=tuple(alerts)))


def test_the_example_can_be_used_as_it_is() -> None:
    settings = load(file=ROOT / "examples/alerts.toml", environment={}, checks=[check_alerts])
    assert len(settings.alerts) >= 5
    assert {channel.type for channel in settings.alerting.channels.values()} == {
        *("webhook", "slack", "email", "alertmanager")
    }


def test_alerts_come_from_the_environment_too() -> None:
    text = '[{ name = "a", metric = "count", above = 1 }]'
    assert load(environment={"SIDESPAN_ALERTS": text}).alerts[0].name == "a"


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ({"metric": "cost_usd"}, "-cost_usd"),
        ({"metric": "cost_usd", "below": 1}, "cost_usd"),
        ({"metric": "error_rate"}, "-count"),
        ({"metric": "error_rate", "below": 1}, "-count"),
        ({"metric": "count", "below": 1}, "count"),
    ],
)
def test_groups_are_chosen_so_that_those_that_matter_are_watched(given: dict[str, Any], order: str) -> None:
    question = question_of(alert(by=["user"], **given), until_unix_ns=SOME_UNIX_NS)
    assert question.parameters["order"] == (order,)


def test_windows_end_at_multiples_of_the_step() -> None:
    each = alert(window_seconds=3600, delay_seconds=30)
    assert each.step_seconds == 120
    now = 1_000_000_000 * SECOND
    end = window_end(each, now)
    assert end % (120 * SECOND) == 0
    assert now - 150 * SECOND < end <= now - 30 * SECOND
    assert due([each], {}, now) == [(each, end)]
    assert due([each], {each.name: end}, now) == []
    assert due([each], {each.name: end}, next_due(each, end)) == [(each, end + 120 * SECOND)]


def test_alerts_that_differ_in_threshold_or_metric_share_a_query() -> None:
    same = {"of": "models", "by": ["model"], "metric": "error_rate"}
    alerts = [
        alert(name="a", **same),
        alert(name="b", **same | {"above": 20, "for_seconds": 60}),
        alert(name="c", **same | {"metric": "duration_seconds_p95"}),
        alert(name="d", **same | {"by": ["provider"]}),
        alert(name="e", **same | {"filters": {"service": "x"}}),
        alert(name="f", **same | {"window_seconds": 120}),
    ]
    shared = shared_questions([(each, SOME_UNIX_NS) for each in alerts])
    assert [list(each.alerts) for each in shared] == [["a", "b", "c"], ["d"], ["e"], ["f"]]
    assert shared[0].question.metrics == ("error_rate", "count", "duration_seconds_p95")
