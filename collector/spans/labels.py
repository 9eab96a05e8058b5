"""What MLflow holds of a trace beside its spans: the session, the user and the tags that it was given. Pure.

MLflow's own SDK sets them for the whole trace (`mlflow.update_current_trace`), and its page and API change
the tags later; no span says so.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from collector.spans.readers import text
from collector.spans.values import SpanFacts

Tag = tuple[str, str]
MAX_TAG_NAME_CHARACTERS = 250
# mlflow/utils/validation.py, _validate_tag_name
NOT_IN_TAG_NAMES = re.compile(r"[^\w\-. :/]")
# mlflow/tracing/constant.py, TraceMetadataKey; the last says that a client has set the first two
SESSION, USER, BY_CLIENT = "mlflow.trace.session", "mlflow.trace.user", "mlflow.trace.infoFinalized"
# tags that say what the resource of the spans does
OF_RESOURCE = ("mlflow.", "service.", "telemetry.", "deployment.environment")
# of a trace that is in the archive and not in MLflow: the file
ARCHIVED_TAG = "sidespan.archived"
# what harmonising gives a tag that is a word without a value
NO_VALUE = "true"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceLabels:
    """Session, user and tags of a trace, where MLflow was told of them; tags are (name, value)."""

    session: str | None = None
    user: str | None = None
    tags: tuple[Tag, ...] = ()

    def over(self, spans: Iterable[SpanFacts]) -> list[Tag]:
        """The tags of the trace: these, and those that its spans have under other names."""
        said = list(dict.fromkeys([tag for span in spans if span.tags for tag in span.tags]))
        if not self.tags:
            return said
        copies = {(tag_name(name), value or NO_VALUE) for name, value in said}
        own = [tag for tag in self.tags if tag not in copies]
        names = {name for name, _ in own}
        return [*own, *(tag for tag in said if tag_name(tag[0]) not in names)]


NO_LABELS = TraceLabels()


def read_labels(trace_info: Mapping[str, Any]) -> TraceLabels:
    """The labels in MLflow's JSON of a trace (trace_info).

    Session and user only where a client has set them: else MLflow has them from the spans, as we do.
    """
    metadata, tags = trace_info.get("trace_metadata", {}), trace_info.get("tags", {})
    by_client = BY_CLIENT in metadata
    named = ((str(name), text(value)) for name, value in sorted(tags.items()))
    return TraceLabels(
        session=text(metadata.get(SESSION)) if by_client else None,
        user=text(metadata.get(USER)) if by_client else None,
        tags=tuple((name, said) for name, said in named if said and not name.startswith(OF_RESOURCE)),
    )


def tag_name(name: str) -> str:
    """A tag's name in the characters that MLflow allows; what it doesn't is `_`."""
    return NOT_IN_TAG_NAMES.sub("_", name)[:MAX_TAG_NAME_CHARACTERS]
