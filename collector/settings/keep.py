"""The settings of whole-trace sampling."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from collector.model.score_condition import score_condition


class KeepSettings(BaseModel):
    """Forward some traces whole, and the rest not at all.

    A trace is forwarded if one of the conditions holds, else if it is the one in `one_in`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    type: Literal["keep"] = "keep"
    """`keep`."""
    errors: bool = True
    """Keep traces with an error; an error that the agent may still retry does not count."""
    slower_than_seconds: float | None = Field(None, ge=0)
    """Keep traces that took longer from first start to last end."""
    costlier_than_usd: float | None = Field(None, ge=0)
    """Keep traces whose model calls cost more, by the client's figures or the public price list."""
    sessions: tuple[str, ...] = ()
    """Keep traces of these sessions; `*` matches any text, `?` one character (`vip-*`)."""
    scores: tuple[str, ...] = ()
    """Keep traces with such a score: `NAME`, `NAME=label`, or `NAME` with `>`, `>=`, `<` or `<=` and a number
    (`helpful<0.5`). Each trace that nothing else keeps then waits `wait_seconds` for evaluations."""
    one_in: int = Field(ge=1)
    """Keep one trace in this many of the rest, chosen by its id: the same on every machine. 1 keeps all."""
    wait_seconds: float = Field(30.0, gt=0)
    """How long to wait for the root of a trace, and with `scores` for evaluations, from its first span."""
    max_open_traces: int = Field(20_000, ge=1)
    """Traces that can wait at once, up to 2 KiB of memory each; beyond it the oldest are decided early."""

    @field_validator("scores")
    @classmethod
    def _are_conditions(cls, scores: tuple[str, ...]) -> tuple[str, ...]:
        for text in scores:
            score_condition(text)
        return scores
