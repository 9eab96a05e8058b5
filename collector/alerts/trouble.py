"""The alert that Sidespan brings itself: that others can't be evaluated. Pure."""

from collections.abc import Mapping

from collector.alerts.definition import TROUBLE
from collector.alerts.measurements import Measured, Measurement
from collector.settings.alerts import AlertSettings

MAX_NAMED = 5


def trouble_alert(*, for_seconds: float, channels: tuple[str, ...]) -> AlertSettings:
    """It fires while any alert can't be evaluated, for so long."""
    return AlertSettings(
        name=TROUBLE,
        description="Their states stay as they were. The reasons are at /-/alerts and in the log.",
        of="alerts",
        metric="unevaluated",
        above=0,
        for_seconds=for_seconds,
        channels=channels,
    )


def measured_trouble(troubles: Mapping[str, str | None]) -> Measured:
    """How many can't be evaluated; `troubles` are the reasons by alert, None where there is none."""
    failing = float(sum(reason is not None for reason in troubles.values()))
    return Measured(groups={(): Measurement(value=failing, judged=failing, sample=len(troubles))})


def trouble_text(troubles: Mapping[str, str | None]) -> str:
    """Which alerts, and why the first of them."""
    failing = {name: reason for name, reason in troubles.items() if reason is not None}
    if not failing:
        return "all alerts are evaluated again"
    named = ", ".join(list(failing)[:MAX_NAMED])
    more = f" and {len(failing) - MAX_NAMED} more" if len(failing) > MAX_NAMED else ""
    return f"{len(failing)} of {len(troubles)} alerts ({named}{more}): {next(iter(failing.values()))}"
