"""The one typed object that says how the service runs.

section.py    what every section has in common
sections.py   the sections, with bounds, defaults and their reference
access.py     those on clients and policy
alerts.py     those on alerts and their channels
live.py       that on traces as they come
loading.py    flags > environment > sidespan.toml > defaults, and what can't be right
"""

from collector.settings.loading import FOREIGN_VARIABLES, environment, known_keys, load
from collector.settings.section import Section
from collector.settings.sections import (
    MIB,
    DeliverySettings,
    HarmoniseSettings,
    IndexSettings,
    JournalSettings,
    LogSettings,
    MlflowSettings,
    ProxySettings,
    ReceiverSettings,
    RoutingSettings,
    RunsSettings,
    ServerSettings,
    Settings,
    is_loopback,
)

__all__ = [
    "FOREIGN_VARIABLES",
    "MIB",
    "DeliverySettings",
    "HarmoniseSettings",
    "IndexSettings",
    "JournalSettings",
    "LogSettings",
    "MlflowSettings",
    "ProxySettings",
    "ReceiverSettings",
    "RoutingSettings",
    "RunsSettings",
    "Section",
    "ServerSettings",
    "Settings",
    "environment",
    "is_loopback",
    "known_keys",
    "load",
]
