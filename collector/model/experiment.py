"""An experiment as far as it is known. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentReference:
    """An experiment by its id, by its name, or by both."""

    id: str | None = None
    name: str | None = None
