"""What of a request goes to a target: sampled -> selected -> harmonised -> processed.

Pure; slow: for a thread.
"""

from collections.abc import Callable, Mapping, Sequence

from collector.delivery.bisect import only
from collector.delivery.group import Request
from collector.delivery.mlflow.forward import Forward, Forwarded, forwarder
from collector.delivery.otlp.selection import ForwardFilter
from collector.model.batch import Signal
from collector.otlp.shapes import SHAPES, Export, SignalShape
from collector.processors.keep import SamplingDecision
from collector.processors.pipeline import outgoing
from collector.processors.redact import redactor
from collector.settings import ForwardSettings, HarmoniseSettings
from collector.settings.processors import Processor

Decisions = Mapping[bytes, SamplingDecision]
# a request, the notes and the sampling decisions of its traces -> what to send
Copy = Callable[[Request, Mapping[bytes, bytes], Decisions], Forwarded]


def copier(
    settings: ForwardSettings,
    selected: ForwardFilter,
    *,
    harmonise: HarmoniseSettings,
    processors: Sequence[Processor],
    is_sampled: bool,
    on_bug: Callable[[Exception], None],
) -> Copy | None:
    """How the target's copy is made; None: it gets what the client sent. `processors` are those for MLflow.

    `on_bug` hears what kept a span from being redacted, which is then left out. A copy raises what a bug
    raises: nothing goes out that was not selected or redacted.
    """
    forward = forwarder(harmonise, processors) if settings.harmonise else None
    if selected.matches is None and not (is_sampled or forward or settings.processors):
        return None
    redact, process = redactor(settings.processors, on_bug), outgoing(settings.processors)

    def copy(request: Request, notes: Mapping[bytes, bytes], decisions: Decisions) -> Forwarded:
        shape = SHAPES[request.signal]
        export = shape.request.FromString(request.payload)
        made = Forwarded(body=b"")
        if request.signal is Signal.TRACES:
            export = selected.apply(_sampled(export, shape, decisions), shape)
            made, export = _harmonised(export, shape, forward, notes)
            process(export, made.faults)
        else:
            export = selected.apply(export, shape)
        if redact is not None:
            redact(export, shape)
        count = shape.count(export)
        return Forwarded(
            body=export.SerializeToString() if count else b"",
            withheld_spans=request.span_count - count,
            notes=made.notes,
            faults=made.faults,
        )

    return copy


def _sampled(export: Export, shape: SignalShape, decisions: Decisions) -> Export:
    dropped = {trace_id for trace_id, decision in decisions.items() if not decision.kept}
    if not dropped:
        return export
    items = [item for holder in shape.holders(export) for item in getattr(holder, shape.items)]
    kept = {position for position, item in enumerate(items) if item.trace_id not in dropped}
    return only(export, shape, kept)


def _harmonised(
    export: Export, shape: SignalShape, forward: Forward | None, notes: Mapping[bytes, bytes]
) -> tuple[Forwarded, Export]:
    if forward is None:
        return Forwarded(body=b""), export
    made = forward(export.SerializeToString(), notes, {})
    return made, shape.request.FromString(made.body)
