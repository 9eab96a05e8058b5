"""What every section of the settings has in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen part of the settings; unknown keys are errors.

    docs/generate.py reads what stands beneath each field. Pydantic could (`use_attribute_docstrings`), but it
    would parse the source at each start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")
