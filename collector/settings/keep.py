"""The settings of whole-trace sampling."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class KeepSettings(BaseModel):
    """Forward some traces whole, and the rest not at all.

    A trace is forwarded if one of the conditions holds, else if it is the one in `one_in`.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    type: Literal["keep"] = "keep"
    """`keep`."""
    errors: bool = True
    """Keep traces with an error; one that its agent may still retry is none."""
    slower_than_seconds: float | None = Field(None, ge=0)
    """Keep traces that took longer, from their first start to their last end."""
    costlier_than_usd: float | None = Field(None, ge=0)
    """Keep traces whose model calls cost more, as the client says it or by the public price list."""
    sessions: tuple[str, ...] = ()
    """Keep traces of these sessions; `*` and `?` stand for any characters (`vip-*`)."""
    one_in: int = Field(ge=1)
    """Of the rest keep one trace in so many, chosen by its id: the same on every machine. 1 keeps all."""
    wait_seconds: float = Field(30.0, gt=0)
    """How long a trace whose root span has not come is waited for, from its first span on."""
    max_open_traces: int = Field(20_000, ge=1)
    """Traces waited for at once, up to 2 KiB of memory each; over it the oldest are decided early."""
