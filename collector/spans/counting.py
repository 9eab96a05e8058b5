"""Which spans' tokens and costs to add, so that nothing is counted twice. Pure.

Frameworks write the usage of one model call on the call, again on the call around it, and again as a
sum on the agent. The rules (each is a bug that somebody shipped):

    model calls (LLM, EMBEDDING, DECISION) are counted, the deepest of those that carry a value
    a model call without a value is covered by the nearest ancestor that has one, if no call below has
    a value on any other span counts only where there is no model call at all to count
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from collector.spans.conventions import ObservationKind
from collector.spans.tree import Tree
from collector.spans.values import SpanFacts

MODEL_KINDS = frozenset({ObservationKind.LLM, ObservationKind.EMBEDDING, ObservationKind.DECISION})


def attempts_beside(tree: Tree) -> Tree:
    """The tree with each failed attempt beside the model call above it: calls of their own, billed apart."""
    moved = {position for position, span in enumerate(tree.spans) if span.model_attempt is not None}
    if not moved:
        return tree
    parents = [
        tree.parents[parent] if parent is not None and position in moved else parent
        for position, parent in enumerate(tree.parents)
    ]
    children: list[list[int]] = [[] for _ in tree.spans]
    for position, parent in enumerate(parents):
        if parent is not None:
            children[parent].append(position)
    tops = [position for position, parent in enumerate(parents) if parent is None]
    return replace(tree, parents=parents, children=children, tops=tops)


def model_calls(tree: Tree) -> list[int]:
    """Positions of the model calls: model spans with no other model span below."""
    model_below = [False] * len(tree.spans)
    for position in reversed(range(len(tree.spans))):
        parent = tree.parents[position]
        if parent is not None and (model_below[position] or tree.spans[position].kind in MODEL_KINDS):
            model_below[parent] = True
    return [
        position
        for position, span in enumerate(tree.spans)
        if span.kind in MODEL_KINDS and not model_below[position]
    ]


# what is known of a span and everything under it; 0: there is nothing to add up
CALL_COUNTED = 1  # a model call that carries the value
COUNTED = 2  # that, or a sum that stands for model calls
UNCOVERED = 4  # a model call without the value, and nothing stands for it
LONE = 8  # the value, on spans without any model call below
TAKEN = 16  # the span's own value is the one to add
OF_ALL_BELOW = CALL_COUNTED | COUNTED | UNCOVERED | LONE


def counted(tree: Tree, has_value: Callable[[SpanFacts], bool], model_calls: Sequence[int]) -> list[int]:
    """Positions of the spans to add up; none of them is below another."""
    has = list(map(has_value, tree.spans))
    if not any(has):
        return []
    calls = frozenset(model_calls)
    known = [0] * len(has)
    for position in reversed(range(len(has))):
        decided = known[position]
        if not decided & CALL_COUNTED and (has[position] or position in calls):
            is_model, is_call = tree.spans[position].kind in MODEL_KINDS, position in calls
            known[position] = decided = _decided(decided, is_model, is_call, has[position])
        parent = tree.parents[position]
        if parent is not None:
            known[parent] |= decided & OF_ALL_BELOW
    return _taken(tree, known)


def _decided(below: int, is_model: bool, is_call: bool, has: bool) -> int:
    """What is known with a span that has the value or is a model call; `below` is what is under it."""
    if has and is_model and not below & COUNTED:
        return (below | TAKEN | CALL_COUNTED | COUNTED) & ~UNCOVERED
    if has and below & UNCOVERED:
        return (below | TAKEN | COUNTED) & ~UNCOVERED
    if is_call:
        return below | UNCOVERED
    return below if below & (COUNTED | LONE) else below | TAKEN | LONE


def _taken(tree: Tree, known: Sequence[int]) -> list[int]:
    found = []
    waiting = _worth(tree.tops, known)
    while waiting:
        position = waiting.pop()
        if known[position] & TAKEN:
            found.append(position)
        else:
            waiting.extend(_worth(tree.children[position], known))
    return sorted(found)


def _worth(positions: Sequence[int], known: Sequence[int]) -> list[int]:
    """Those among siblings that lead to values; lone ones only if there is nothing better."""
    better = [position for position in positions if known[position] & COUNTED]
    return better or [position for position in positions if known[position] & LONE]
