"""The one typed object that says how the service runs.

section.py    what every section has in common
sections.py   the sections, with bounds, defaults and their reference
stores.py     those on the log and the index; engines.py: which engines, by URL, and how to reach them
roles.py      what one process does, and which engines that needs
access.py     those on clients and policy
alerts.py     those on alerts and their channels
forward.py    other backends
retention.py  how long traces stay in MLflow
live.py       that on traces as they come
proxy.py      those on everything else to MLflow
loading.py    flags > environment > sidespan.toml > defaults, and what can't be right
"""

from collector.settings.engines import (
    MIB,
    ClickhouseSettings,
    Engine,
    EnginePlace,
    KafkaSettings,
)
from collector.settings.forward import MLFLOW, ForwardSettings
from collector.settings.loading import FOREIGN_VARIABLES, environment, known_keys, load
from collector.settings.proxy import ProxySettings
from collector.settings.retention import CleanupSettings, RetentionSettings
from collector.settings.roles import ALL_ROLES, Role
from collector.settings.section import Section, is_loopback
from collector.settings.sections import (
    DeliverySettings,
    HarmoniseSettings,
    LogSettings,
    McpSettings,
    MlflowSettings,
    ReceiverSettings,
    RoutingSettings,
    RunsSettings,
    ServerSettings,
    Settings,
)
from collector.settings.stores import IndexSettings, JournalSettings

__all__ = [
    "ALL_ROLES",
    "FOREIGN_VARIABLES",
    "MIB",
    "MLFLOW",
    "CleanupSettings",
    "ClickhouseSettings",
    "DeliverySettings",
    "Engine",
    "EnginePlace",
    "ForwardSettings",
    "HarmoniseSettings",
    "IndexSettings",
    "JournalSettings",
    "KafkaSettings",
    "LogSettings",
    "McpSettings",
    "MlflowSettings",
    "ProxySettings",
    "ReceiverSettings",
    "RetentionSettings",
    "Role",
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
