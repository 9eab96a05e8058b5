"""Where the index says another session, user or tag of a trace than MLflow. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from collector.harmonise.mlflow_limits import capped
from collector.spans.labels import NO_VALUE, TraceLabels, tag_name
from collector.spans.mlflow_trace import LabelledTrace

MAX_EXAMPLES = 10
COMPARED = ("session", "user", "tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelDifference:
    """One difference: `what` is session, user or tags; of tags those that MLflow has and the index lacks."""

    trace_id: str
    what: str
    index: str | None
    mlflow: str | None


@dataclass(slots=True, kw_only=True)
class LabelComparison:
    """How many traces were compared, how many differ in what, and the first few differences."""

    compared: int = 0
    different: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COMPARED, 0))
    examples: list[LabelDifference] = field(default_factory=list)

    def add(self, theirs: Sequence[LabelledTrace], ours: Mapping[str, TraceLabels]) -> None:
        """Compare some more traces; those that the index lacks are missing, not different."""
        for trace in theirs:
            if trace.trace_id not in ours:
                continue
            self.compared += 1
            for each in differences(trace, ours[trace.trace_id]):
                self.different[each.what] += 1
                if len(self.examples) < MAX_EXAMPLES:
                    self.examples.append(each)


def differences(theirs: LabelledTrace, ours: TraceLabels) -> Iterator[LabelDifference]:
    """The differences of one trace. MLflow holds long ids shortened, and not the tags of single spans."""
    for what, their_id, our_id in (
        ("session", theirs.session, ours.session),
        ("user", theirs.user, ours.user),
    ):
        if their_id not in (our_id, our_id and capped(our_id)):
            yield LabelDifference(trace_id=theirs.trace_id, what=what, index=our_id, mlflow=their_id)
    known = {(tag_name(name), value or NO_VALUE) for name, value in ours.tags}
    lacking = [tag for tag in theirs.labels.tags if tag not in known]
    if lacking:
        said = {tag_name(name): value for name, value in ours.tags}
        yield LabelDifference(
            trace_id=theirs.trace_id,
            what="tags",
            index=_written((name, said[name]) for name, _ in lacking if name in said) or None,
            mlflow=_written(iter(lacking)),
        )


def _written(tags: Iterator[tuple[str, str]]) -> str:
    return ", ".join(f"{name}={value}" for name, value in tags)
