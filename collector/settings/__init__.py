"""The one typed object that says how the service runs.

section.py    what every section has in common
sections.py   the sections, with bounds, defaults and their reference
access.py     those on clients and policy
loading.py    flags > environment > sidespan.toml > defaults, and what can't be right
"""

from collector.settings.loading import FOREIGN_VARIABLES, environment, known_keys, load
from collector.settings.section import Section
from collector.settings.sections import (
    MIB,
    Delivery,
    Harmonise,
    Index,
    Journal,
    Log,
    Mlflow,
    Proxy,
    Receiver,
    Routing,
    Runs,
    Server,
    Settings,
    is_loopback,
)

__all__ = [
    "FOREIGN_VARIABLES",
    "MIB",
    "Delivery",
    "Harmonise",
    "Index",
    "Journal",
    "Log",
    "Mlflow",
    "Proxy",
    "Receiver",
    "Routing",
    "Runs",
    "Section",
    "Server",
    "Settings",
    "environment",
    "is_loopback",
    "known_keys",
    "load",
]
