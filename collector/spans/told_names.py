"""Which of a span's attributes any fact may stand in, by their names. Pure.

Most of a span's attributes are others. Names repeat from span to span, so whatever follows from names alone
is worked out once.
"""

from dataclasses import dataclass
from functools import lru_cache

from collector.spans.conventions import TAG_PREFIXES
from collector.spans.keys import KEYS
from collector.spans.tags import MAX_NAME_CHARACTERS

# the event that holds a judgement (OpenTelemetry GenAI)
RESULT = "gen_ai.evaluation.result"
# in the names of attributes that hold judgements (OpenInference)
SCORE_NAME_PARTS = (".annotation.", ".evaluation.")
MAX_REMEMBERED_NAMES, MAX_REMEMBERED_CHARACTERS = 200, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TellingNames:
    """`told` are those that any fact may stand in, `of_rows` those of them with a row in the table.

    `has_scores`: a judgement may stand in one of the names.
    """

    told: tuple[str, ...]
    of_rows: tuple[str, ...]
    has_scores: bool


def telling_names(names: tuple[str, ...]) -> TellingNames:
    """What follows from the names of a span's attributes."""
    # spans of one kind have the same names in the same order
    if len(names) > MAX_REMEMBERED_NAMES or len("".join(names)) > MAX_REMEMBERED_CHARACTERS:
        return _telling_names(names)
    return _remembered_names(names)


@lru_cache(maxsize=1024)
def _remembered_names(names: tuple[str, ...]) -> TellingNames:
    return _telling_names(names)


def _telling_names(names: tuple[str, ...]) -> TellingNames:
    told = tuple(filter(may_tell, dict.fromkeys(names)))
    return TellingNames(
        told=told,
        of_rows=tuple(filter(KEYS.__contains__, told)),
        has_scores=any(part in name for name in names for part in SCORE_NAME_PARTS),
    )


def may_tell(key: str) -> bool:
    """Whether a fact may stand in an attribute of this name."""
    # the names of millions of characters that somebody may send are not to be remembered
    return len(key) <= MAX_NAME_CHARACTERS and _is_told(key)


@lru_cache(maxsize=16_384)
def _is_told(key: str) -> bool:
    return key in KEYS or key.startswith(TAG_PREFIXES)
