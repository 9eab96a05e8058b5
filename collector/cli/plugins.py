"""Keeps pydantic from loading plugins: with Logfire's beside it, each of our processes starts half as fast.

https://docs.pydantic.dev/latest/concepts/plugins/#disabling-plugins
"""

import os
from collections.abc import Mapping

SWITCH = "PYDANTIC_DISABLE_PLUGINS"
_ours = SWITCH not in os.environ


def disable_plugins() -> None:
    """For this process and those that it starts, before pydantic is imported; a value that is set stays."""
    if _ours:
        os.environ[SWITCH] = "__all__"


def without_our_switch(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment as it was: a user's program keeps its plugins."""
    return {name: value for name, value in environment.items() if not (_ours and name == SWITCH)}
