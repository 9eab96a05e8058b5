"""MLflow's JSON of runs as our shapes. Pure; what is missing or odd is None, never an error.

Source: runs/get, runs/search, metrics/get-history and artifacts/list in https://mlflow.org/docs/latest/rest-api.html
"""

from collections.abc import Iterable, Mapping
from typing import Any

from collector.answers.runs.models import Artifact, Dataset, Metric, MetricPoint, Run

PARENT = "mlflow.parentRunId"
NAME = "mlflow.runName"
USER = "mlflow.user"
CONTEXT = "mlflow.data.context"
Json = Mapping[str, Any]


def read_run(document: Json, *, now_unix_ns: int) -> Run:
    """A run of runs/get or runs/search, its metrics with their latest values."""
    info, data = _object(document, "info"), _object(document, "data")
    tags = _pairs(data.get("tags"))
    start, end = _milliseconds(info.get("start_time")), _milliseconds(info.get("end_time"))
    until = end if end is not None else (now_unix_ns if info.get("status") == "RUNNING" else None)
    return Run(
        run_id=str(info.get("run_id", "")),
        name=_text(info.get("run_name")) or tags.get(NAME),
        experiment_id=str(info.get("experiment_id", "")),
        status=str(info.get("status", "")),
        lifecycle_stage=str(info.get("lifecycle_stage", "")),
        start_unix_ns=start,
        duration_seconds=None if start is None or until is None else max(0.0, (until - start) / 1e9),
        user=_text(info.get("user_id")) or tags.get(USER),
        parent_run_id=tags.get(PARENT),
        params=_pairs(data.get("params")),
        tags=tags,
        metrics=sorted(
            (metric for entry in data.get("metrics") or () if (metric := _metric(entry)) is not None),
            key=lambda metric: metric.key,
        ),
    )


def read_datasets(document: Json) -> list[Dataset]:
    """The datasets among a run's inputs."""
    return [
        Dataset(
            name=str(dataset.get("name", "")),
            digest=str(dataset.get("digest", "")),
            source_type=str(dataset.get("source_type", "")),
            context=_pairs(entry.get("tags")).get(CONTEXT),
        )
        for entry in _object(document, "inputs").get("dataset_inputs") or ()
        for dataset in (_object(entry, "dataset"),)
    ]


def read_points(document: Json) -> list[MetricPoint]:
    """A page of a metric's history."""
    return [
        MetricPoint(
            step=int(point.get("step") or 0),
            value=_number(point.get("value")),
            unix_ns=_milliseconds(point.get("timestamp")) or 0,
        )
        for point in document.get("metrics") or ()
    ]


def read_artifacts(document: Json) -> list[Artifact]:
    """A folder of a run."""
    return [
        Artifact(
            path=str(file.get("path", "")),
            is_folder=bool(file.get("is_dir")),
            size_bytes=None if file.get("file_size") is None else int(file["file_size"]),
        )
        for file in document.get("files") or ()
    ]


def _metric(document: Json) -> Metric | None:
    if "key" not in document:
        return None
    return Metric(
        key=str(document["key"]),
        last=_number(document.get("value")),
        last_step=int(document.get("step") or 0),
        last_unix_ns=_milliseconds(document.get("timestamp")) or 0,
    )


def _number(value: Any) -> float:
    """protobuf's JSON has NaN and infinities as texts; a zero may be left out."""
    try:
        return float(value if value is not None else 0.0)
    except (TypeError, ValueError):
        return float("nan")


def _milliseconds(value: Any) -> int | None:
    try:
        return int(value) * 1_000_000 if value else None
    except (TypeError, ValueError):
        return None


def _pairs(values: Any) -> dict[str, str]:
    return {str(pair.get("key")): str(pair.get("value", "")) for pair in _objects(values)}


def _objects(values: Any) -> Iterable[Json]:
    return (value for value in values or () if isinstance(value, dict))


def _object(document: Json, key: str) -> Json:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
