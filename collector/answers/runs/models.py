"""The shapes of the answers on runs. Durations are seconds, times are nanoseconds since 1970."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class RunsModel(BaseModel):
    """An answer about runs, or a part of one. Field docstrings are descriptions in the OpenAPI document."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, ser_json_inf_nan="strings")


class MetricPoint(RunsModel):
    """One logged value."""

    step: int
    value: float
    """NaN and infinities are the strings `NaN`, `Infinity` and `-Infinity`."""
    unix_ns: int


class Metric(RunsModel):
    """One metric of a run, over its whole history."""

    key: str
    last: float
    last_step: int
    last_unix_ns: int
    minimum: float | None = None
    """Over the whole history; null if it has no finite value or was not read."""
    maximum: float | None = None
    total_points: int | None = None
    """Number of points in MLflow; `history` may have fewer."""
    truncated: bool = False
    """True if the history exceeds the limit per run; minimum and maximum then cover only what was read."""
    history: list[MetricPoint] | None = None


class Dataset(RunsModel):
    """An input dataset of the run."""

    name: str
    digest: str
    source_type: str
    context: str | None = None


class Artifact(RunsModel):
    """A file or folder among the run's artifacts."""

    path: str
    is_folder: bool
    size_bytes: int | None = None


class LinkedTraces(RunsModel):
    """Totals of the traces linked to a run, from the metadata in MLflow."""

    count: int
    truncated: bool
    """True if the run has more traces; the totals cover `count` traces."""
    errors: int
    duration_p50_seconds: float | None
    duration_p95_seconds: float | None
    duration_max_seconds: float | None
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cost_usd: float | None
    sessions: int
    names: dict[str, int] = Field(default_factory=dict)
    """Number of traces by name, most frequent first; at most 20 names."""


class Run(RunsModel):
    """A run with its latest metrics."""

    run_id: str
    name: str | None
    experiment_id: str
    status: str
    """As in MLflow: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED."""
    lifecycle_stage: str
    start_unix_ns: int | None
    duration_seconds: float | None
    """Up to the end of the run, or up to now while it is running."""
    user: str | None
    parent_run_id: str | None
    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[Metric]


class RunDetail(Run):
    """A run with metric histories, datasets, artifacts, child runs and totals of its traces."""

    artifact_uri: str | None
    datasets: list[Dataset]
    children: list[Run]
    artifacts: list[Artifact] | None
    """Null if the client has no permission to read them."""
    artifacts_truncated: bool
    traces: LinkedTraces | None
    """Null if the client has no permission to read them."""
    incomplete: list[str]
    """What could not be read from MLflow, and why."""


class RunPage(RunsModel):
    """A page of runs."""

    runs: list[Run]
    next_page_token: str | None


class Difference(RunsModel):
    """A parameter, tag or metric of the compared runs, in their order; null where a run has none."""

    key: str
    values: list[Any]
    differs: bool
    change: float | None = None
    """Relative change from the first run to the last; null if not numeric."""


class Comparison(RunsModel):
    """Runs side by side."""

    runs: list[Run]
    params: list[Difference]
    metrics: list[Difference]
    tags: list[Difference]
