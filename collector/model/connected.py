"""Things that share something, directly or through others, together. Pure."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def connected(items: Sequence[T], keys: Callable[[T], Iterable[Hashable]]) -> list[list[T]]:
    """`items` in groups: two that share a key are in one group, and so is what either shares keys with.

    Groups come in the order of their first item, and items in a group in their own order.
    """
    parent = list(range(len(items)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first_with: dict[Hashable, int] = {}
    for index, item in enumerate(items):
        for key in keys(item):
            low, high = sorted((root(first_with.setdefault(key, index)), root(index)))
            parent[high] = low
    groups: dict[int, list[T]] = {}
    for index, item in enumerate(items):
        groups.setdefault(root(index), []).append(item)
    return list(groups.values())
