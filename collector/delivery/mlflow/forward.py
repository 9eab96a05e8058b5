"""The copy of a request for MLflow: keep -> harmonise -> limit, slim, tag, drop. Pure; slow: for a thread."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.delivery.mlflow.file_tags import without_file_tags, without_marks
from collector.harmonise.apply import Harmonised, harmonise
from collector.harmonise.parts import Part
from collector.model.faults import Faults
from collector.processors import keep
from collector.processors.keep import SamplingDecision
from collector.processors.pipeline import outgoing, works_outgoing
from collector.settings import HarmoniseSettings
from collector.settings.processors import Processor


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """What is sent in the place of a request's payload.

    An empty `body`: nothing is. `notes` are to be kept once MLflow has taken it; `counts` say what was done,
    by (processor, outcome); `withheld_spans` are left out; `faults` are the bugs that cost spans what would
    have been done to them.
    """

    body: bytes
    withheld_spans: int = 0
    notes: Mapping[bytes, bytes] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)


# payload, the notes and the sampling decisions of its traces -> what to send
Forward = Callable[[bytes, Mapping[bytes, bytes], Mapping[bytes, SamplingDecision]], Forwarded]


def forwarder(settings: HarmoniseSettings, processors: Sequence[Processor] = ()) -> Forward | None:
    """What the settings want done on the way out; None: nothing, the payload goes as it came."""
    parts = parts_of(settings)
    if not parts and not any(works_outgoing(each) for each in processors):
        return None
    process = outgoing(processors)

    def forward(
        payload: bytes, notes: Mapping[bytes, bytes], decisions: Mapping[bytes, SamplingDecision]
    ) -> Forwarded:
        counts: Counter[tuple[str, str]] = Counter()
        faults = Faults()
        payload = _clients_own(payload, counts)
        export = ExportTraceServiceRequest.FromString(payload)
        if decisions:
            counts["keep", "dropped"] = keep.apply(export, decisions)
        done = Harmonised()
        try:
            done = harmonise(export, parts=parts, notes=notes)
            faults.join(done.faults)
        except Exception as error:  # the spans go without; half of what was to be done may be in there
            faults.add(error)
            export = ExportTraceServiceRequest.FromString(payload)
            keep.apply(export, decisions)
        counts.update({("harmonise", part.value): count for part, count in done.added.items()})
        counts["harmonise", "failed"] = faults.count
        counts.update(process(export, faults))
        return Forwarded(
            body=export.SerializeToString() if _has_spans(export) else b"",
            withheld_spans=counts["keep", "dropped"] + counts["drop", "dropped"],
            notes=done.notes,
            counts=+counts,
            faults=faults,
        )

    return forward


def unchanged(payload: bytes) -> Forwarded:
    """What is sent where nothing is to be added: the payload, without what no client may write."""
    counts: Counter[tuple[str, str]] = Counter()
    return Forwarded(body=_clients_own(payload, counts), counts=+counts)


def as_stored(payload: bytes) -> Forwarded:
    """What is sent of spans that MLflow had before: as it had them, with the marks of what was added."""
    counts: Counter[tuple[str, str]] = Counter()
    payload, counts["file_tags", "removed"] = without_file_tags(payload)
    return Forwarded(body=payload, counts=+counts)


def _clients_own(payload: bytes, counts: Counter[tuple[str, str]]) -> bytes:
    payload, counts["file_tags", "removed"] = without_file_tags(payload)
    payload, counts["marks", "removed"] = without_marks(payload)
    return payload


def _has_spans(export: ExportTraceServiceRequest) -> bool:
    return any(scope.spans for resource in export.resource_spans for scope in resource.scope_spans)


def parts_of(settings: HarmoniseSettings) -> frozenset[Part]:
    """The parts that are switched on."""
    return frozenset(part for part in Part if settings.enabled and getattr(settings, part.value))
