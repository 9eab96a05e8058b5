"""Values that would open more than their route says: where files lie. Pure.

A write that names a place of files makes them readable under an id of the caller's own: an experiment's
`artifact_location`, a model version's `source`, the tags of a trace that say where its spans are. Such a
value is fine inside MLflow's own artifacts and in `policy.artifact_roots`; any other needs
`artifact-locations:admin`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from proxy.errors import invalid
from proxy.locations import find

# tags of a trace that MLflow reads files by; OTLP carries them as attributes `mlflow.traceTag.<tag>`
FILE_TAGS = ("mlflow.artifactLocation", "mlflow.trace.archiveLocation", "mlflow.trace.spansLocation")
ARTIFACT_LOCATIONS = "artifact-locations"

_TRACE = ("trace", "trace_info")
_ROWS: dict[str, tuple[tuple[str, ...], ...]] = {
    "POST /2.0/mlflow/experiments/create": (("artifact_location",),),
    "POST /2.0/mlflow/model-versions/create": (("source",),),
    "POST /3.0/mlflow/traces": tuple((*_TRACE, f"tags<{tag}>") for tag in FILE_TAGS),
    "POST /2.0/mlflow/traces": tuple((f"tags<{tag}>",) for tag in FILE_TAGS),
    "PATCH /2.0/mlflow/traces/{request_id}": tuple((f"tags<{tag}>",) for tag in FILE_TAGS),
}
_TAG_ROWS = frozenset(
    {"PATCH /2.0/mlflow/traces/{request_id}/tags", "PATCH /3.0/mlflow/traces/{trace_id}/tags"}
)
ROWS = frozenset(_ROWS) | _TAG_ROWS

# MLflow resolves these inside its own storage, and checks ids in them itself
OWN = re.compile(
    r"(?:runs|models):/(?:/)?[^/]|mlflow-artifacts:/|dummy-source\Z"
)  # the last: a prompt has no files
# what a path can be led astray with: CVE-2023-1177, -2024-1483, -2024-1593, -2024-3573 and their kin
ASTRAY = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|$)|[#?;\\%\x00-\x1f]")


def places(row: str, document: Any, *, roots: Sequence[str]) -> Iterator[str]:
    """The addresses in a body that need `artifact-locations:admin`.

    Raises Refusal (400) for one that could lead anywhere but where it says.
    """
    for value in _addresses(row, document):
        if ASTRAY.search(value):
            raise invalid(f"{value[:120]!r} is not a plain address of files: no .., #, ?, ;, \\, % in it")
        if row.endswith("/model-versions/create") and OWN.match(value):
            continue
        if not any(value == root.rstrip("/") or value.startswith(root.rstrip("/") + "/") for root in roots):
            yield value


def _addresses(row: str, document: Any) -> Iterator[str]:
    if row in _TAG_ROWS:
        if next(find(document, ("key",)), None) in FILE_TAGS:
            yield from find(document, ("value",))
        return
    for keys in _ROWS.get(row, ()):
        yield from find(document, keys)
