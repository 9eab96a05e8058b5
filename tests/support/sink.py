"""A place to append to that remembers, and can be told to fail."""

from collections.abc import Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.model.batch import Draft, Route
from tests.support.otlp import all_spans


class Sink:
    """Stands where the journal stands; `error` is raised by each append while it is set."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.error: Exception | None = None
        self.unknown_experiments: set[str] = set()

    async def append(self, drafts: Sequence[Draft]) -> int:
        if self.error is not None:
            raise self.error
        self.drafts += drafts
        return len(self.drafts)

    async def exists(self, route: Route) -> bool:
        return (route.experiment_id or route.experiment_name) not in self.unknown_experiments

    @property
    def span_names(self) -> list[str]:
        return [
            span.name
            for draft in self.drafts
            for span in all_spans(ExportTraceServiceRequest.FromString(draft.payload))
        ]
