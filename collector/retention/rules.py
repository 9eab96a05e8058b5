"""What the rules say of one trace, as MLflow describes it (trace_info of its API). Pure."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from collector.model.experiment import ExperimentReference
from collector.settings import CleanupSettings, RetentionSettings

# mlflow/tracing/constant.py, TraceMetadataKey
SOURCE_RUN, SIZE_STATS, SIZE_BYTES = "mlflow.sourceRun", "mlflow.trace.sizeStats", "mlflow.trace.sizeBytes"
# how a span names a file that was logged with it: mlflow/tracing/attachments.py, Attachment.ref
ATTACHMENT = "mlflow-attachment:"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedTrace:
    """A trace of MLflow's without its spans. `id` is MLflow's (tr-...); `size_bytes` 0: MLflow doesn't say.

    `digest` changes with whatever `info` says.
    """

    id: str
    started_unix_ms: int
    size_bytes: int
    info: Mapping[str, Any]

    @property
    def trace_id(self) -> str:
        """Its 32 hex digits."""
        return self.id.removeprefix("tr-")

    @property
    def day(self) -> str:
        """The day (UTC) on which it started, as 2026-01-31."""
        return datetime.fromtimestamp(self.started_unix_ms / 1000, UTC).strftime("%Y-%m-%d")

    @property
    def digest(self) -> str:
        """Of everything that MLflow says of it."""
        return hashlib.sha256(json.dumps(self.info, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """Traces that something else in MLflow needs, by MLflow's ids (tr-...)."""

    in_datasets: Collection[str] = field(default=frozenset())
    in_runs: Collection[str] = field(default=frozenset())


def read_stored(info: Mapping[str, Any]) -> RetainedTrace:
    """A trace from MLflow's JSON. Raises KeyError, ValueError, TypeError: it is none."""
    started = datetime.fromisoformat(str(info["request_time"]))
    return RetainedTrace(
        id=str(info["trace_id"]),
        started_unix_ms=round(started.timestamp() * 1000),
        size_bytes=_size_bytes(info.get("trace_metadata") or {}),
        info=info,
    )


def size_of(trace: Mapping[str, Any]) -> int:
    """The bytes of a trace's spans as MLflow's JSON has them, which is nearly what its database holds."""
    return len(spans_text(trace))


def spans_text(trace: Mapping[str, Any]) -> str:
    """A trace's spans in JSON; "": MLflow tells none."""
    spans = trace.get("spans")
    return json.dumps(spans, separators=(",", ":")) if spans else ""


def says_the_same(info: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether MLflow says of a trace what it said before; assessments come in any order."""

    def ordered(each: Mapping[str, Any]) -> Any:
        found = sorted(each.get("assessments") or (), key=lambda one: str(one.get("assessment_id")))
        return {**each, "assessments": found}

    return bool(ordered(info) == ordered(before))


def _size_bytes(metadata: Mapping[str, Any]) -> int:
    try:
        stats = json.loads(metadata.get(SIZE_STATS) or "{}")
        return int(stats.get("total_size_bytes") or metadata.get(SIZE_BYTES) or 0)
    except (ValueError, TypeError, AttributeError):
        return 0


def protection(
    trace: RetainedTrace, protected: Protected, rule: RetentionSettings, *, keep_tag: str
) -> str | None:
    """Why the rule must leave the trace: `assessments`, `dataset`, `run` or `tag`; None: it need not."""
    metadata, tags = trace.info.get("trace_metadata") or {}, trace.info.get("tags") or {}
    found = {
        "assessments": bool(trace.info.get("assessments")),
        "dataset": trace.id in protected.in_datasets,
        "run": bool(metadata.get(SOURCE_RUN)) or trace.id in protected.in_runs,
        "tag": keep_tag in tags and str(tags[keep_tag]).lower() != "false",
    }
    return next((why for why, holds in found.items() if holds and why not in rule.even_if), None)


def matches(trace: RetainedTrace, rule: RetentionSettings) -> bool:
    """Whether its state and tags are those of the rule."""
    tags = trace.info.get("tags") or {}
    is_state = not rule.status or trace.info.get("state", "STATE_UNSPECIFIED") in rule.status
    return is_state and all(tags.get(name) == value for name, value in rule.tags.items())


def applies_to(rule: RetentionSettings, experiment: ExperimentReference) -> bool:
    """Whether the rule names the experiment."""
    name = experiment.name or ""
    return any(
        fnmatchcase(name, glob.replace("[", "[[]")) or (glob.isdecimal() and glob == experiment.id)
        for glob in rule.experiments
    )


def metric_filters(rule: RetentionSettings) -> list[Sequence[str]]:
    """Conditions of traces/metrics whose counts add up to the traces that match state and tags."""
    tags = [f"trace.tag.`{name}` = {quoted(value)}" for name, value in rule.tags.items()]
    if not rule.status:
        return [tags]
    return [[f"trace.status = '{status}'", *tags] for status in dict.fromkeys(rule.status)]


def search_filter(rule: RetentionSettings, *, from_unix_ms: int, before_unix_ms: int) -> str:
    """The rule's traces of a time as a filter of traces/search."""
    clauses = [
        f"attributes.timestamp_ms >= {from_unix_ms}",
        f"attributes.timestamp_ms < {before_unix_ms}",
        *(f"tags.`{name}` = {quoted(value)}" for name, value in rule.tags.items()),
    ]
    if len(rule.status) == 1:
        clauses.append(f"attributes.status = '{rule.status[0]}'")
    return " AND ".join(clauses)


def ids_filter(ids: Sequence[str]) -> str:
    """These traces (tr-...) as a filter of traces/search."""
    return f"attributes.request_id IN ({', '.join(quoted(id) for id in ids)})"


def quoted(text: str) -> str:
    """A text in a filter; MLflow's grammar has no escape, so that one with both quotes can't be asked for."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def cutoff_unix_ms(rule: RetentionSettings, now_unix_ns: int) -> int:
    """Only traces that started before this are selected."""
    return now_unix_ns // 1_000_000 - round((rule.older_than_seconds or 0.0) * 1000)


def is_fresh(restored_unix_ns: int | None, settings: CleanupSettings, now_unix_ns: int) -> bool:
    """Whether a trace was restored so recently that it stays."""
    return restored_unix_ns is not None and (
        now_unix_ns - restored_unix_ns < settings.keep_restored_seconds * 1e9
    )
