"""Which of a span's attributes any fact may stand in, by their names. Pure.

Most of a span's attributes are others. Names repeat from span to span, so whatever follows from names alone
is worked out once.
"""

from functools import lru_cache

from collector.spans.conventions import TAG_PREFIXES
from collector.spans.keys import KEYS
from collector.spans.tags import MAX_NAME_CHARACTERS

MAX_REMEMBERED_NAMES, MAX_REMEMBERED_CHARACTERS = 200, 10_000


def telling_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a span's names that any fact may stand in."""
    # spans of one kind have the same names in the same order
    if len(names) > MAX_REMEMBERED_NAMES or sum(map(len, names)) > MAX_REMEMBERED_CHARACTERS:
        return tuple(filter(may_tell, names))
    return _remembered_names(names)


@lru_cache(maxsize=1024)
def _remembered_names(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(filter(may_tell, names))


def may_tell(key: str) -> bool:
    """Whether a fact may stand in an attribute of this name."""
    # the names of millions of characters that somebody may send are not to be remembered
    return len(key) <= MAX_NAME_CHARACTERS and _is_told(key)


@lru_cache(maxsize=16_384)
def _is_told(key: str) -> bool:
    return key in KEYS or key.startswith(TAG_PREFIXES)
