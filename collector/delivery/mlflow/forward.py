"""The copy of a request for MLflow: keep -> harmonise -> limit, slim, tag, drop. Pure; slow: for a thread."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.delivery.mlflow.file_tags import without_file_tags
from collector.harmonise.apply import harmonise
from collector.harmonise.parts import Part
from collector.processors import keep
from collector.processors.keep import Decision
from collector.processors.pipeline import outgoing, works_outgoing
from collector.settings import Harmonise as HarmoniseSettings
from collector.settings.processors import Processor

NO_NOTES: Mapping[bytes, bytes] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """What is sent in the place of a request's payload.

    An empty `body`: nothing is. `notes` are to be kept once MLflow has taken it; `counts` say what was done,
    by (processor, outcome); `withheld_spans` are left out.
    """

    body: bytes
    withheld_spans: int = 0
    notes: Mapping[bytes, bytes] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)


# payload, the notes and the sampling decisions of its traces -> what to send
Forward = Callable[[bytes, Mapping[bytes, bytes], Mapping[bytes, Decision]], Forwarded]


def forwarder(settings: HarmoniseSettings, processors: Sequence[Processor] = ()) -> Forward | None:
    """What the settings want done on the way out; None: nothing, the payload goes as it came."""
    parts = parts_of(settings)
    if not parts and not any(works_outgoing(each) for each in processors):
        return None
    process = outgoing(processors)

    def forward(
        payload: bytes, notes: Mapping[bytes, bytes], decisions: Mapping[bytes, Decision]
    ) -> Forwarded:
        counts: Counter[tuple[str, str]] = Counter()
        payload, counts["file_tags", "removed"] = without_file_tags(payload)
        export = ExportTraceServiceRequest.FromString(payload)
        if decisions:
            counts["keep", "dropped"] = keep.apply(export, decisions)
        done = harmonise(export, parts=parts, notes=notes)
        counts.update({("harmonise", part.value): count for part, count in done.added.items()})
        counts["harmonise", "failed"] = done.failed_traces
        counts.update(process(export))
        return Forwarded(
            body=export.SerializeToString() if _has_spans(export) else b"",
            withheld_spans=counts["keep", "dropped"] + counts["drop", "dropped"],
            notes=done.notes,
            counts=+counts,
        )

    return forward


def _has_spans(export: ExportTraceServiceRequest) -> bool:
    return any(scope.spans for resource in export.resource_spans for scope in resource.scope_spans)


def parts_of(settings: HarmoniseSettings) -> frozenset[Part]:
    """The parts that are switched on."""
    return frozenset(part for part in Part if settings.enabled and getattr(settings, part.value))
