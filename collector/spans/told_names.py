"""Which of a span's attributes any fact may stand in, by their names. Pure.

Most of a span's attributes are others. Names repeat from span to span, so whatever follows from names alone
is worked out once.
"""

from dataclasses import dataclass
from functools import lru_cache

from collector.spans.conventions import HTTP_MARKS, TAG_PREFIXES
from collector.spans.keys import KEYS
from collector.spans.kind_table import KINDS, ROLL_UPS
from collector.spans.reading import VARYING_KEYS, may_repeat
from collector.spans.tags import MAX_NAME_CHARACTERS, NOT_TAGS
from collector.spans.usage_objects import OBJECTS

# the event that holds a judgement (OpenTelemetry GenAI)
RESULT = "gen_ai.evaluation.result"
# in the names of attributes that hold judgements (OpenInference)
SCORE_NAME_PARTS = (".annotation.", ".evaluation.")
MAX_REMEMBERED_NAMES, MAX_REMEMBERED_CHARACTERS = 200, 10_000
MAX_REMEMBERED = 1024


# compared by which it is: the same names have the same one, as long as they are remembered
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TellingNames:
    """`told` are those that any fact may stand in, `of_rows` those of them with a row in the table.

    `repeated` say what is the same in many spans: plain values, neither objects nor tags. `varying` are
    other plain values. `is_plain`: there are no objects and no tags.

    `kinds` may name the span's kind, the best first; `objects` hold objects to be opened. `has_scores`: a
    judgement may stand in one of the names. `may_have_tags`, `may_roll_up`: what they say is to be looked at.
    """

    told: tuple[str, ...]
    of_rows: tuple[str, ...]
    repeated: tuple[str, ...]
    varying: tuple[str, ...]
    kinds: tuple[str, ...]
    objects: tuple[str, ...]
    is_http: bool
    may_have_tags: bool
    may_roll_up: bool
    has_scores: bool
    is_plain: bool


# spans of one kind have the same names in the same order
_remembered: dict[tuple[str, ...], TellingNames] = {}


def telling_names(names: tuple[str, ...]) -> TellingNames:
    """What follows from the names of a span's attributes."""
    found = _remembered.get(names)
    if found is None:
        found = _telling_names(names)
        if len(names) <= MAX_REMEMBERED_NAMES and sum(map(len, names)) <= MAX_REMEMBERED_CHARACTERS:
            if len(_remembered) >= MAX_REMEMBERED:
                _remembered.clear()
            _remembered[names] = found
    return found


def _telling_names(names: tuple[str, ...]) -> TellingNames:
    told = tuple(filter(may_tell, dict.fromkeys(names)))
    objects = tuple(filter(OBJECTS.__contains__, told))
    may_have_tags = not NOT_TAGS.issuperset(told)
    return TellingNames(
        told=told,
        of_rows=tuple(filter(KEYS.__contains__, told)),
        repeated=tuple(filter(may_repeat, told)),
        varying=tuple(filter(VARYING_KEYS.__contains__, told)),
        kinds=tuple(filter(told.__contains__, KINDS)),
        objects=objects,
        is_http=not HTTP_MARKS.isdisjoint(told),
        may_have_tags=may_have_tags,
        may_roll_up=not ROLL_UPS.keys().isdisjoint(told),
        has_scores=any(part in name for name in names for part in SCORE_NAME_PARTS),
        is_plain=not objects and not may_have_tags,
    )


def may_tell(key: str) -> bool:
    """Whether a fact may stand in an attribute of this name."""
    # the names of millions of characters that somebody may send are not to be remembered
    return len(key) <= MAX_NAME_CHARACTERS and _is_told(key)


@lru_cache(maxsize=16_384)
def _is_told(key: str) -> bool:
    return key in KEYS or key.startswith(TAG_PREFIXES)
