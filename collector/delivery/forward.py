"""The copy of a request that goes to MLflow: parse -> harmonise -> serialize. Pure; slow: for a thread."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.harmonise.apply import harmonise
from collector.harmonise.parts import Part
from collector.settings import Harmonise as HarmoniseSettings

NO_NOTES: Mapping[bytes, bytes] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """What is sent in the place of a request's payload.

    `notes` are to be kept once MLflow has taken it; `counts` say what was done, by (processor, outcome).
    """

    body: bytes
    notes: Mapping[bytes, bytes] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)


# payload and the notes of its traces -> what to send
Forward = Callable[[bytes, Mapping[bytes, bytes]], Forwarded]


def forwarder(settings: HarmoniseSettings) -> Forward | None:
    """What the settings want done on the way out; None: nothing, the payload goes as it came."""
    parts = frozenset(part for part in Part if settings.enabled and getattr(settings, part.value))
    if not parts:
        return None

    def forward(payload: bytes, notes: Mapping[bytes, bytes]) -> Forwarded:
        export = ExportTraceServiceRequest.FromString(payload)
        done = harmonise(export, parts=parts, notes=notes)
        counts = {("harmonise", part.value): count for part, count in done.added.items()}
        if done.failed_traces:
            counts["harmonise", "failed"] = done.failed_traces
        return Forwarded(body=export.SerializeToString(), notes=done.notes, counts=counts)

    return forward
