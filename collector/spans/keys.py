"""Every attribute that a fact may stand in. Pure."""

from collector.spans.conventions import ADDED, AGGREGATED, HTTP_MARKS, TABLE, TAG_LISTS, TAG_OBJECTS
from collector.spans.kind_table import KINDS

# every attribute that is looked at; the rest of a span needs no decoding
KEYS: frozenset[str] = (
    frozenset(s.key for table in (TABLE, AGGREGATED) for sources in table.values() for s in sources)
    | frozenset(KINDS)
    | HTTP_MARKS
    | {*TAG_LISTS, *TAG_OBJECTS, ADDED}
)
