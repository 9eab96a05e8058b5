"""The shapes of the answers on runs. Durations are seconds, times are nanoseconds since 1970."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """A frozen answer; field docstrings are in the OpenAPI document."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True, ser_json_inf_nan="strings")


class MetricPoint(Shape):
    """One logged value."""

    step: int
    value: float
    """NaN and infinities are the strings `NaN`, `Infinity`, `-Infinity`."""
    unix_ns: int


class Metric(Shape):
    """One metric of a run, over its whole history."""

    key: str
    last: float
    last_step: int
    last_unix_ns: int
    minimum: float | None = None
    """Over all points; None if no point is a finite number, or the history wasn't read."""
    maximum: float | None = None
    total_points: int | None = None
    """How many points MLflow has, of which `history` may hold fewer."""
    truncated: bool = False
    """The history is longer than what is read of one run; minimum and maximum are of what was read."""
    history: list[MetricPoint] | None = None


class Dataset(Shape):
    """A dataset that the run was given."""

    name: str
    digest: str
    source_type: str
    context: str | None = None


class Artifact(Shape):
    """A file or folder of the run."""

    path: str
    is_folder: bool
    size_bytes: int | None = None


class LinkedTraces(Shape):
    """The traces linked to a run, summed up from what MLflow holds of each."""

    count: int
    truncated: bool
    """There are more; the sums are of `count`."""
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
    """How many traces of each name, the most frequent first; at most 20."""


class Run(Shape):
    """A run as a list shows it."""

    run_id: str
    name: str | None
    experiment_id: str
    status: str
    """MLflow's word: RUNNING, SCHEDULED, FINISHED, FAILED, KILLED."""
    lifecycle_stage: str
    start_unix_ns: int | None
    duration_seconds: float | None
    """Until its end, or until now while it runs."""
    user: str | None
    parent_run_id: str | None
    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[Metric]


class RunDetail(Run):
    """A run with everything about it."""

    artifact_uri: str | None
    datasets: list[Dataset]
    children: list[Run]
    artifacts: list[Artifact] | None
    """None: the client may not read them."""
    artifacts_truncated: bool
    traces: LinkedTraces | None
    """None: the client may not read them."""
    incomplete: list[str]
    """What could not be had, and why."""


class RunPage(Shape):
    """A page of runs."""

    runs: list[Run]
    next_page_token: str | None


class Difference(Shape):
    """One param, tag or metric over the compared runs, in their order; None where a run has none."""

    key: str
    values: list[Any]
    differs: bool
    change: float | None = None
    """Of a number: the last run's against the first's, as a share of the first's."""


class Comparison(Shape):
    """Runs side by side."""

    runs: list[Run]
    params: list[Difference]
    metrics: list[Difference]
    tags: list[Difference]
