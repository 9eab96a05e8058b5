"""What is noted of a span that MLflow has: enough to count its trace again when more of it comes. Pure.

A row of JSON, without what is empty: the span's id, its parent, and what `count` (collector/spans/totals.py)
looks at.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.values import NO_TOKENS, SpanFacts, Tokens

# the newest of a trace; what one more would make the note hold is written again with each request
MAX_SEEN = 1000
TEXTS = ("model", "request_model", "response_model", "provider")
TOKENS = ("tokens", "aggregated_tokens")
COUNTS = tuple(field.name for field in fields(Tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSpan:
    """A span that MLflow has: its facts as far as they count, and a checksum of what it was told of them."""

    facts: SpanFacts
    told: int = 0


def noted(facts: SpanFacts) -> SpanFacts:
    """Of the facts those that are noted."""
    return SpanFacts(
        trace_id="",
        span_id=facts.span_id,
        parent_span_id=facts.parent_span_id,
        name="",
        start_unix_ns=facts.start_unix_ns,
        end_unix_ns=facts.start_unix_ns,
        kind=facts.kind,
        is_roll_up=facts.is_roll_up,
        model=facts.model,
        request_model=facts.request_model,
        response_model=facts.response_model,
        provider=facts.provider,
        tokens=facts.tokens,
        aggregated_tokens=facts.aggregated_tokens,
        cost_usd=facts.cost_usd,
        cost_source=facts.cost_source,
    )


def call_alone(span_id: str) -> SeenSpan:
    """A model call of which no more is known than that MLflow was told of it."""
    nothing_more = Tokens(input=0, output=0, total=0)
    facts = SpanFacts(
        trace_id="",
        span_id=span_id,
        name="",
        start_unix_ns=0,
        end_unix_ns=0,
        kind=ObservationKind.LLM,
        tokens=nothing_more,
    )
    return SeenSpan(facts=facts, told=1)


def checksum(*told: Any) -> int:
    """The same for what is the same; differs for nearly everything else."""
    return zlib.crc32(repr(told).encode("utf-8", "replace"))


def seen_to_json(seen: Sequence[SeenSpan]) -> list[Mapping[str, Any]]:
    """Rows that `seen_from_json` reads."""
    return [_row(each) for each in seen[-MAX_SEEN:]]


def seen_from_json(rows: Sequence[Mapping[str, Any]]) -> tuple[SeenSpan, ...]:
    """Back. Raises ValueError, TypeError or KeyError for what are no rows."""
    return tuple(_seen(row) for row in rows)


def _row(seen: SeenSpan) -> Mapping[str, Any]:
    facts = seen.facts
    row: dict[str, Any] = {
        "id": facts.span_id,
        "parent": facts.parent_span_id,
        "start": facts.start_unix_ns,
        "kind": None if facts.kind is ObservationKind.OTHER else facts.kind.value,
        "roll_up": facts.is_roll_up or None,
        **{name: getattr(facts, name) for name in TEXTS},
        **{name: _counts(said) for name in TOKENS if (said := getattr(facts, name)) is not NO_TOKENS},
        "cost": None if facts.cost_usd is None else [facts.cost_usd, facts.cost_source.value],
        "told": seen.told or None,
    }
    return {name: value for name, value in row.items() if value is not None}


def _counts(tokens: Tokens) -> list[int | None]:
    return [getattr(tokens, name) for name in COUNTS]


def _seen(row: Mapping[str, Any]) -> SeenSpan:
    said: dict[str, Any] = {name: row.get(name) for name in TEXTS}
    for name in TOKENS:
        said[name] = Tokens(**dict(zip(COUNTS, row[name], strict=True))) if name in row else NO_TOKENS
    usd, source = row.get("cost", (None, CostSource.NONE))
    facts = SpanFacts(
        trace_id="",
        span_id=str(row["id"]),
        parent_span_id=row.get("parent"),
        name="",
        start_unix_ns=int(row["start"]),
        end_unix_ns=int(row["start"]),
        kind=ObservationKind(row.get("kind", ObservationKind.OTHER)),
        is_roll_up=bool(row.get("roll_up")),
        **said,
        cost_usd=usd,
        cost_source=CostSource(source),
    )
    return SeenSpan(facts=facts, told=int(row.get("told", 0)))
