"""The settings of the proxy to MLflow."""

from typing import Literal

from pydantic import Field

from collector.settings.engines import MIB
from collector.settings.section import Section


class ProxySettings(Section):
    """Everything else to MLflow."""

    max_connections: int = Field(100, ge=1)
    """Connections to MLflow for proxied requests."""
    read_timeout_seconds: float = Field(300.0, gt=0)
    """Longest pause of MLflow; a large artifact from a remote store takes minutes to its first byte."""
    lookup_timeout_seconds: float = Field(30.0, gt=0)
    """Time for MLflow to say which experiment an id belongs to, for clients limited to experiments."""
    max_inspected_bytes: int = Field(32 * MIB, gt=0)
    """Largest body that is read because the decision depends on it; beyond it 413. Others are streamed."""
    answer_from_index: Literal["off", "auto"] = "off"
    """`auto`: answer MLflow's `traces/metrics` and `traces/search` from a copy, where it provably says what
    MLflow would ([fast_mlflow.md](fast_mlflow.md)). `sidespan up` sets it."""
    answer_max_traces: int = Field(1_000_000, ge=0)
    """Traces of which such copies are made, all experiments together; beyond it MLflow is asked."""
