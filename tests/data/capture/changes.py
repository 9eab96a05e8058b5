"""Which cells of a trace's summary a new capture changes.

What MLflow and the statistics show of it is checked by tests/system/test_frameworks.py.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from collector.spans.facts import export_facts
from collector.spans.summary import summarise
from collector.spans.values import SpanFacts
from tests.data.capture.files import CAPTURE, requests
from tests.system.framework_cells import Cells, of_summary


def summaries(folder: Path) -> list[Cells]:
    """The cells of each trace of the capture in `folder`, in the order in which they began."""
    if not (folder / CAPTURE).exists():
        return []
    traces: dict[str, list[SpanFacts]] = defaultdict(list)
    for request in requests(folder):
        for span in export_facts(request):
            traces[span.trace_id].append(span)
    found = [summarise(spans, trace_id=trace_id) for trace_id, spans in traces.items()]
    found.sort(key=lambda each: each.start_unix_ns)
    return [of_summary(each.to_json()) for each in found]


def changes(before: Sequence[Cells], after: Sequence[Cells]) -> Iterator[str]:
    """A line for each cell that differs."""
    if not before:
        yield f"new, with {len(after)} traces: write its truth.toml"
        return
    if len(before) != len(after):
        yield f"{len(after)} traces instead of {len(before)}"
    for number, (old, new) in enumerate(zip(before, after, strict=False), 1):
        for cell, value in new.items():
            if old.get(cell) != value:
                yield f"trace {number}: {cell} was {old.get(cell)!r}, is {value!r}"
