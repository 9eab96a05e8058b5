"""Retention, as the API asks for it; collector/retention/ answers."""

import json
from typing import Any, Protocol

from collector.answers.encoding import EncodedJson


class RetentionAnswers(Protocol):
    """What leaves MLflow, and comes back."""

    async def plan(self, *, listed: int) -> dict[str, Any]:
        """What each rule would do now, by experiment, with the first `listed` trace ids.

        Raises BadParameter: there are no rules; CleanupTrouble: MLflow can't be asked.
        """

    async def begin(self) -> dict[str, Any]:
        """Begin a run, unless one goes on; its state. Raises BadParameter."""

    async def state(self) -> dict[str, Any]:
        """{"run": the one that goes on or the last one, "archive": how many traces it has, by state}."""

    async def restore_trace(self, trace_id: str) -> dict[str, Any]:
        """Send a trace back to MLflow. Raises BadParameter: the archive hasn't got it; CannotRestore."""

    async def restore_experiment(self, experiment_id: str) -> dict[str, Any]:
        """Send some of an experiment's traces back: {"traces", "left"}. Raises CannotRestore."""

    async def where(self, trace_id: str) -> dict[str, Any] | None:
        """Where the content of an archived trace is; None: it isn't archived."""


def with_archived(summary: EncodedJson, place: dict[str, Any] | None) -> EncodedJson:
    """The summary of a trace, with where its content is."""
    if place is None:
        return summary
    return EncodedJson(json.dumps(json.loads(summary) | {"archived": place}).encode())
