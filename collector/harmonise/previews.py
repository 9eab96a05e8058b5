"""The question and the answer of a trace whose root has none. Pure.

The question is that of the first agent, workflow or model call below that has one in words, the answer that
of the last: what says nothing, or only calls tools, is passed over. Which request a span comes in makes no
difference: the note keeps what is known so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.harmonise.content import View, answer, question
from collector.spans.conventions import ObservationKind
from collector.spans.values import SpanFacts

MAX_NOTED_CHARACTERS = 1000
# of two that begin, or end, at once the first in this order
TELLING = (ObservationKind.AGENT, ObservationKind.WORKFLOW, ObservationKind.LLM)

Said = tuple[int, str]
Spoken = tuple[SpanFacts, View, Sequence[Span.Event]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Question and answer, each with the start or the end of its span in nanoseconds since 1970."""

    question: Said | None = None
    answer: Said | None = None

    def to_json(self) -> list[Said | None]:
        """As the note keeps it: texts are cut."""
        return [each and (each[0], each[1][:MAX_NOTED_CHARACTERS]) for each in (self.question, self.answer)]

    @staticmethod
    def from_json(values: Sequence[Sequence[int | str] | None]) -> "Preview":
        """Raises ValueError or TypeError where that is not what was written."""
        question, answer = ((int(each[0]), str(each[1])) if each else None for each in values)
        return Preview(question=question, answer=answer)


NO_PREVIEW = Preview()


def preview_of(spans: Sequence[Spoken], before: Preview) -> Preview:
    """What the spans say, and what was known before."""
    telling = [each for each in spans if each[0].kind in TELLING]
    return Preview(question=_question(telling, before.question), answer=_answer(telling, before.answer))


def says_more(spans: Sequence[Spoken], before: Preview) -> bool:
    """Whether there was no question, or no answer, and now there is."""
    if before.question and before.answer:
        return False
    found = preview_of(spans, before)
    return bool((found.question and not before.question) or (found.answer and not before.answer))


def _question(spans: Sequence[Spoken], before: Said | None) -> Said | None:
    for facts, view, events in sorted(spans, key=lambda each: (each[0].start_unix_ns, _rank(each[0]))):
        if before is not None and before[0] <= facts.start_unix_ns:
            return before
        if asked := question(view, events):
            return facts.start_unix_ns, asked
    return before


def _answer(spans: Sequence[Spoken], before: Said | None) -> Said | None:
    for facts, view, events in sorted(spans, key=lambda each: (-each[0].end_unix_ns, _rank(each[0]))):
        if before is not None and before[0] > facts.end_unix_ns:
            return before
        if answered := answer(view, events):
            return facts.end_unix_ns, answered
    return before


def _rank(facts: SpanFacts) -> int:
    return TELLING.index(facts.kind)
