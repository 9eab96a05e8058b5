"""Alerts, as the API asks for them; collector/alerts/ answers."""

from collections.abc import Mapping
from typing import Any, Protocol

from collector.answers.rights import ReadRights
from collector.settings.alerts import AlertSettings


class AlertAnswers(Protocol):
    """What the alerts of a service say, and what can be done to them."""

    async def page(self) -> dict[str, Any]:
        """{"alerts": each with its definition and state, "channels": …, "dead_letters": the newest}."""

    async def snooze(self, name: str, *, seconds: float) -> dict[str, Any]:
        """Tell nothing of an alert for so long; 0 wakes it. Raises BadParameter: there is no such alert."""

    async def test(
        self, alert: AlertSettings, *, since: str, until: str, rights: ReadRights
    ) -> Mapping[str, Any]:
        """What an alert would have told. Raises BadParameter, AnswerUnavailable, IndexFailed, IndexAway."""

    async def count(self) -> None:
        """Bring the metrics up to date."""

    def health(self) -> dict[str, Any] | None:
        """Its part of the service's health; None: there are no alerts."""
