"""Token counts in order, and what they cost by the price list. Pure."""

from collections.abc import Mapping

from collector.spans.conventions import (
    MODALITIES,
    TOKEN_KINDS,
    CostSource,
    ObservationKind,
)
from collector.spans.prices import price
from collector.spans.values import NO_TOKENS, Tokens, made_of

FIELDS = {f"{kind}_tokens": kind for kind in TOKEN_KINDS}
PRICED_APART = {
    f"{modality}_{direction}": f"{direction}_{modality}_tokens"
    for modality in MODALITIES
    for direction in ("input", "output")
    if modality != "text"
}
PRICED_KINDS = frozenset({ObservationKind.LLM, ObservationKind.EMBEDDING})


def read_tokens(found: Mapping[str, int], *, excludes_cache: bool = False) -> tuple[Tokens, bool]:
    """What was found, put in order, and whether the input came without its cached part (counting rule 2)."""
    if not found:
        return NO_TOKENS, False
    counts = {FIELDS[name]: count for name, count in found.items()}
    given = counts.get("input")
    cached = (counts.get("cache_read") or 0) + (counts.get("cache_write") or 0)
    excluded = given is not None and cached > 0 and (excludes_cache or given < cached)
    if given is not None and excluded:
        counts["input"] = given = given + cached
    total = _total(given, counts.get("output"), counts.get("total"))
    if total is not None:
        counts["total"] = total
    return made_of(Tokens, counts), excluded


def _total(taken: int | None, output: int | None, given: int | None) -> int | None:
    if taken is not None and output is not None:
        return taken + output
    if given is not None:
        return given
    return taken if output is None else output


def modality_counts(tokens: Tokens) -> Mapping[str, int]:
    """What has a price of its own, under the price list's names."""
    return {name: count for kind, name in PRICED_APART.items() if (count := getattr(tokens, kind))}


def listed_cost(
    kind: ObservationKind, tokens: Tokens, model: str | None, provider: str | None, start_unix_ns: int
) -> tuple[float | None, CostSource]:
    """US dollars by the price list, for a model call with tokens."""
    if kind not in PRICED_KINDS or model is None or not tokens.known:
        return None, CostSource.NONE
    found = price(
        model=model,
        provider=provider,
        input_tokens=tokens.input or 0,
        output_tokens=tokens.output or 0,
        cache_read_tokens=tokens.cache_read or 0,
        cache_write_tokens=tokens.cache_write or 0,
        by_modality=modality_counts(tokens),
        at_unix_ns=start_unix_ns,
    )
    return (found.total, CostSource.TABLE) if found else (None, CostSource.NONE)
