"""Prints a capture as trees of spans: `python -m tests.data.capture.show NAME [CHARACTERS]`."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.spans.facts import decode_attributes
from tests.data.capture.environments import FRAMEWORKS
from tests.data.capture.files import requests

Sent = tuple[int, str, Span]
Below = Mapping[bytes, Sequence[Sent]]


def lines(folder: Path, characters: int) -> Iterator[str]:
    """Trace by trace; the number before a span is that of the request it came in."""
    for trace_id, spans in _traces(folder).items():
        yield f"trace {trace_id}"
        ids = {span.span_id for _, _, span in spans}
        below: dict[bytes, list[Sent]] = defaultdict(list)
        for sent in sorted(spans, key=lambda sent: sent[2].start_time_unix_nano):
            parent = sent[2].parent_span_id
            below[parent if parent in ids else b""].append(sent)
        yield from _tree(below, b"", characters, "  ")


def _traces(folder: Path) -> Mapping[str, Sequence[Sent]]:
    found: dict[str, list[Sent]] = defaultdict(list)
    for number, request in enumerate(requests(folder), 1):
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    found[span.trace_id.hex()].append((number, scope_spans.scope.name, span))
    return found


def _tree(
    below: Mapping[bytes, Sequence[Sent]], parent: bytes, characters: int, indent: str
) -> Iterator[str]:
    for number, scope, span in below.get(parent, ()):
        failed = f"  FAILED {span.status.message[:characters]}" if span.status.code == 2 else ""
        lost = "  (its parent is elsewhere)" if span.parent_span_id and not parent else ""
        yield f"{indent}{number}: {span.name}  <{scope}>{lost}{failed}"
        yield from _attributes(span.attributes, characters, f"{indent}    ")
        for event in span.events:
            yield f"{indent}    event {event.name}"
            yield from _attributes(event.attributes, characters, f"{indent}        ")
        yield from _tree(below, span.span_id, characters, f"{indent}  ")


def _attributes(attributes: Sequence[KeyValue], characters: int, indent: str) -> Iterator[str]:
    for key, value in decode_attributes(attributes).items():
        yield f"{indent}{key} = {repr(value)[:characters]}"


if __name__ == "__main__":
    for line in lines(FRAMEWORKS / sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 160):
        print(line)
