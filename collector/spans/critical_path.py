"""The critical path of a trace: at each moment the span that its end was waiting for. Pure.

root  |--------------------------|      going back from the end: the child that ended last, from there
  a     |=======|                       the one that ended last before it began, and so on; between
  b        |====================|       children the span itself
                ^ a ended, b ran on: nothing waited for a
"""

from collections.abc import Sequence

from collector.spans.tree import Tree


def critical_path_ns(tree: Tree) -> list[int]:
    """For each span how long the critical path ran in it, children apart; all together at most the trace."""
    found = [0] * len(tree.spans)
    if not tree.spans:
        return found
    end = max(span.end_unix_ns for span in tree.spans)
    begin = min(span.start_unix_ns for span in tree.spans)
    waiting = _waited_for(tree, tree.tops, begin, end)[0]
    while waiting:
        position, since, until = waiting.pop()
        below, covered = _waited_for(tree, tree.children[position], since, until)
        found[position] = until - since - covered
        waiting += below
    return found


def _waited_for(
    tree: Tree, siblings: Sequence[int], since: int, until: int
) -> tuple[list[tuple[int, int, int]], int]:
    """Which siblings were waited for, each with its part of [since, until], and the sum of the parts."""
    found, covered = [], 0
    for position in sorted(siblings, key=lambda each: tree.spans[each].end_unix_ns, reverse=True):
        span = tree.spans[position]
        begin, end = max(span.start_unix_ns, since), min(span.end_unix_ns, until)
        if begin < end:
            found.append((position, begin, end))
            covered += end - begin
            until = begin
    return found, covered
