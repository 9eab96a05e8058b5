"""What an alert asks of the index, and whether it can be asked at all. Pure.

The parameters are those of the API's statistics and comparisons, and the same code checks them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.index.protocol import QueryKind
from collector.index.queries.asked import Asked
from collector.index.queries.overview import comparison_questions
from collector.index.queries.stats import ENTITIES, Sum, question
from collector.model.errors import WrongSetting
from collector.model.parameters import BadParameter
from collector.settings import Settings
from collector.settings.alerts import AlertSettings

SAMPLE = "count"
# the alert that Sidespan brings itself (trouble.py)
TROUBLE = "alerts can't be evaluated"
NS_A_SECOND = 1_000_000_000
# any moment will do to check a question
SOME_UNIX_NS = 1_700_000_000 * NS_A_SECOND
# parameters of a question -> where they stand in an alert; others are filters
_KEYS = {
    "of": "of",
    "metric": "metric",
    "by": "by",
    "a.version": "baseline_version",
    "b.version": "filters.version",
    "top": "max_groups",
}
# what the window says
_RESERVED = ("since", "until", "top", "order", "bucket", "of", "metric", "by")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertQuestion:
    """What one alert asks for one window: parameters as a request to the API has them, without metrics.

    Alerts with equal questions are answered by one query, for all of their `metrics`.
    """

    kind: QueryKind
    parameters: Mapping[str, tuple[str, ...]]
    metrics: Sequence[str]

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for questions that one query can answer."""
        return self.kind, *sorted(self.parameters.items())

    @property
    def with_metrics(self) -> dict[str, Sequence[str]]:
        """All parameters."""
        return {**self.parameters, "metric": self.metrics}


def question_of(alert: AlertSettings, *, until_unix_ns: int) -> AlertQuestion:
    """The question for the window that ends at `until_unix_ns`."""
    window = round(alert.window_seconds * NS_A_SECOND)
    since = until_unix_ns - window
    shared = {
        **filters_of(alert),
        "of": (alert.of,),
        "by": tuple(dict.fromkeys(alert.by)),
        "order": (_order(alert),),
        "top": (str(alert.max_groups),),
    }
    this = {"since": (str(since),), "until": (str(until_unix_ns),)}
    times: Mapping[str, tuple[str, ...]]
    match alert.compare_with:
        case "previous-window":
            before = {"a.since": (str(since - window),), "a.until": (str(since),)}
            times = before | {f"b.{name}": value for name, value in this.items()}
        case "version":
            watched = shared.pop("version")
            times = this | {"a.version": (str(alert.baseline_version),), "b.version": watched}
        case _:
            times = this
    return AlertQuestion(
        kind=QueryKind.STATS if alert.compare_with == "nothing" else QueryKind.COMPARE,
        parameters={name: value for name, value in {**shared, **times}.items() if value},
        metrics=tuple(dict.fromkeys((alert.metric, SAMPLE))),
    )


def filters_of(alert: AlertSettings) -> dict[str, tuple[str, ...]]:
    """The filters as parameters."""
    return {
        name: tuple(map(str, value)) if isinstance(value, tuple) else (str(value),)
        for name, value in alert.filters.items()
    }


def _order(alert: AlertSettings) -> str:
    """Sums by their size: who spends most is watched. A rate of a few traces is no reason to be watched."""
    entity = ENTITIES.get(alert.of)
    is_sum = entity is not None and isinstance(entity.metrics.get(alert.metric), Sum)
    first = alert.metric if is_sum else SAMPLE
    smallest_first = alert.below is not None and first == alert.metric
    return first if smallest_first else f"-{first}"


def check_alerts(settings: Settings) -> None:
    """Raises WrongSetting for the first alert that could not be evaluated, or would be told to nobody."""
    names: set[str] = set()
    for number, alert in enumerate(settings.alerts):
        place = f"alerts.{number}"
        if alert.name == TROUBLE:
            raise WrongSetting(f"{place}.name", alert.name, "is the name of Sidespan's own alert")
        if alert.name in names:
            raise WrongSetting(f"{place}.name", alert.name, "another alert has this name")
        names.add(alert.name)
        for channel in alert.channels or ():
            if channel not in settings.alerting.channels:
                known = ", ".join(settings.alerting.channels) or "none"
                raise WrongSetting(f"{place}.channels", channel, f"no such channel; there are: {known}")
        check_alert(alert, place)
    if settings.alerts and not settings.index.enabled:
        raise WrongSetting("index.enabled", False, "alerts need the index: enable it, or remove [[alerts]]")


def check_alert(alert: AlertSettings, place: str) -> None:
    """Raises WrongSetting: the index could not be asked this; `place` is where the alert stands."""
    for name, values in alert.filters.items():
        if values == ():
            raise WrongSetting(f"{place}.filters.{name}", [], "must name a value; without any, leave it out")
        if name in _RESERVED or "." in name:  # a.user is a filter of one side of a comparison
            raise WrongSetting(f"{place}.filters.{name}", values, "is not a filter of an alert")
    asks = question_of(alert, until_unix_ns=SOME_UNIX_NS)
    asked = Asked(parameters=asks.with_metrics, now_unix_ns=SOME_UNIX_NS)
    try:
        _ = question(asked) if asks.kind is QueryKind.STATS else comparison_questions(asked)
    except BadParameter as error:
        name = str(error.document["parameter"])
        key = _KEYS.get(name, f"filters.{name}")
        message = f"{error} (alert {alert.name!r})"
        raise WrongSetting(f"{place}.{key}", error.document["value"], message) from error
