"""Things that share something, together."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from collector.model.connected import connected

items_strategy = st.lists(st.frozensets(st.integers(0, 12), max_size=3), max_size=25)


def test_what_shares_a_key_through_others_is_one_group_in_order() -> None:
    items = [{"a"}, {"b"}, {"c", "d"}, {"a", "c"}, set()]
    assert connected(items, lambda item: item) == [[{"a"}, {"c", "d"}, {"a", "c"}], [{"b"}], [set()]]


@given(items_strategy)
def test_groups_hold_each_item_once_and_share_no_key(items: list[frozenset[int]]) -> None:
    groups = connected(items, lambda item: item)
    assert sorted(map(sorted, itertools.chain(*groups))) == sorted(map(sorted, items))
    keys = [frozenset().union(*group) for group in groups]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(keys, 2))


@given(items_strategy)
def test_a_group_cannot_be_parted(items: list[frozenset[int]]) -> None:
    for group in connected(items, lambda item: item):
        reached = set(group[0])
        for _ in group:
            reached |= {key for item in group if item & reached for key in item}
        assert all(item <= reached for item in group)
