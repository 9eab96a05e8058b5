"""Spans in a tree that is always a tree. Pure.

Senders drop spans, deliver them twice or late, and now and then name a span as its own ancestor. So:

    same span id twice         the copy that ended last, then the one that knows more; equal copies are one
    parent not here            the span stands at the top, and the parent is counted as missing
    parents in a circle        the circle is cut above its earliest span, and counted as one missing parent

Spans stand in the order of a walk (parents before children, children by start), so that going backwards
through the list meets every child before its parent: nothing here recurses, however deep the trace.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from operator import attrgetter

from collector.spans.values import SpanFacts

_place = attrgetter("start_unix_ns", "span_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Spans in walking order; `parents`, `children`, `tops` hold positions in `spans`.

    Tops are the roots, then what hangs in the air, each by start. `root_count` of them are true roots.
    """

    spans: Sequence[SpanFacts]
    parents: Sequence[int | None]
    children: Sequence[Sequence[int]]
    depths: Sequence[int]
    tops: Sequence[int]
    root_count: int
    missing_parents: int


def build_tree(spans: Iterable[SpanFacts]) -> Tree:
    """The tree of the spans of one trace, whatever their order and however often each is there."""
    by_id = unique(spans)
    ordered = sorted(by_id.values(), key=_place)
    children: dict[str, list[SpanFacts]] = defaultdict(list)
    roots, orphans = [], []
    for span in ordered:
        if span.parent_span_id is None:
            roots.append(span)
        elif span.parent_span_id in by_id and span.parent_span_id != span.span_id:
            children[span.parent_span_id].append(span)
        else:
            orphans.append(span)
    missing = {span.parent_span_id for span in orphans}
    # in order already
    tree = _walked([*roots, *orphans], children, root_count=len(roots), missing_parents=len(missing))
    if len(tree.spans) == len(ordered):
        return tree
    cut = _circles(ordered, by_id, {span.span_id for span in (*roots, *orphans)})
    tops = [*roots, *sorted([*orphans, *cut], key=_place)]
    return _walked(tops, children, root_count=len(roots), missing_parents=len(missing) + len(cut))


def unique(spans: Iterable[SpanFacts]) -> dict[str, SpanFacts]:
    """One copy of each span: of different ones that which ended last, then that which knows more.

    Whatever their order: facts that a newer version reads come with the span once it is indexed again.
    """
    chosen: dict[str, SpanFacts] = {}
    for span in spans:
        other = chosen.setdefault(span.span_id, span)
        if other is not span and other != span:
            chosen[span.span_id] = max(other, span, key=_precedence)
    return chosen


def _precedence(copy: SpanFacts) -> tuple[int, int, str]:
    counts = (*astuple(copy.tokens), *astuple(copy.aggregated_tokens))
    known = sum(getattr(copy, field.name) not in (None, ()) for field in fields(copy))
    return copy.end_unix_ns, known + sum(count is not None for count in counts), repr(copy)


def self_times_ns(tree: Tree) -> list[int]:
    """For each span its duration minus the union of its children, within the span (counting rule 6)."""
    return [
        span.duration_ns - _covered_ns(span, [tree.spans[child] for child in children])
        if children
        else span.duration_ns
        for span, children in zip(tree.spans, tree.children, strict=True)
    ]


def _covered_ns(span: SpanFacts, children: Sequence[SpanFacts]) -> int:
    covered, reached = 0, span.start_unix_ns
    for child in children:
        start = max(child.start_unix_ns, reached)
        end = min(child.end_unix_ns, span.end_unix_ns)
        if end > start:
            covered += end - start
            reached = end
    return covered


def _circles(
    ordered: Sequence[SpanFacts], by_id: dict[str, SpanFacts], grounded: set[str]
) -> list[SpanFacts]:
    """The earliest span of each circle of parents; `grounded` are the ids that start a walk already."""
    cut = []
    done = set(grounded)
    for span in ordered:
        path: dict[str, SpanFacts] = {}
        while span.span_id not in done and span.span_id not in path:
            path[span.span_id] = span
            span = by_id[span.parent_span_id or ""]
        if span.span_id not in done:
            ids = list(path)
            circle = ids[ids.index(span.span_id) :]
            cut.append(min((path[span_id] for span_id in circle), key=_place))
        done.update(path)
    return cut


def _walked(
    tops: Sequence[SpanFacts], children: dict[str, list[SpanFacts]], *, root_count: int, missing_parents: int
) -> Tree:
    spans: list[SpanFacts] = []
    parents: list[int | None] = []
    below: list[list[int]] = []
    depths: list[int] = []
    top_ids = {span.span_id for span in tops}
    waiting: list[tuple[SpanFacts, int | None, int]] = [(span, None, 0) for span in reversed(tops)]
    while waiting:
        span, parent, depth = waiting.pop()
        position = len(spans)
        spans.append(span)
        parents.append(parent)
        below.append([])
        depths.append(depth)
        if parent is not None:
            below[parent].append(position)
        if following := children.get(span.span_id):
            # only where a circle was cut is a top also somebody's child
            waiting += [
                (each, position, depth + 1) for each in reversed(following) if each.span_id not in top_ids
            ]
    return Tree(
        spans=spans,
        parents=parents,
        children=below,
        depths=depths,
        tops=[position for position, parent in enumerate(parents) if parent is None],
        root_count=root_count,
        missing_parents=missing_parents,
    )
