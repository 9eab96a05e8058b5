"""What a model call costs by the public price list, the data of the `genai-prices` package. Pure.

It is loaded on the first call: 0.3 s and 47 MB that a service without unpriced calls never needs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType

NO_MODALITIES: Mapping[str, int] = MappingProxyType({})
MAX_UNIT_COUNT = 2**53
MINUTE_NS = 60_000_000_000
# a price of one token: input, output, read from and written to the cache
UnitPrices = tuple[Decimal, Decimal, Decimal, Decimal]
COUNTED = 1_000_000
ONE_OF_EACH = (
    (COUNTED, 0, 0, 0),
    (0, COUNTED, 0, 0),
    (COUNTED, 0, COUNTED, 0),
    (COUNTED, 0, 0, COUNTED),
)
# on both sides of every step that a list has for long inputs
CHECKED = ((1009, 103, 211, 307), (150_001, 9_973, 0, 40_009), (3_000_017, 70_001, 900_001, 500_009))
# before a model's name: `openrouter/openai/gpt-4o`, `publishers/google/models/gemini-2.5-pro`
MAX_PREFIXES = 4
# the list finds a provider by its models' names only where they begin as its chat models do: these are asked
# for the others, such as `text-embedding-3-small`
PROVIDERS = ("openai", "anthropic", "aws", "google", "mistral", "cohere", "voyageai")
# run by their users: no provider's price is theirs, whatever the model
LOCAL = frozenset({"ollama", "ollama_chat", "lm_studio", "llamafile", "vllm", "hosted_vllm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars for one model call. `input` holds what the cache cost, `output` the reasoning."""

    input: float
    output: float
    total: float


def price(
    *,
    model: str,
    provider: str | None,
    input_tokens: int,
    output_tokens: int,
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    by_modality: Mapping[str, int] = NO_MODALITIES,
    at_unix_ns: int = 0,
) -> Price | None:
    """The price at that time (0: today's), or None where the list doesn't know the model.

    `input_tokens` include the cached ones; `by_modality` are parts of input and output that have prices of
    their own, such as `input_audio_tokens`. A provider that the list doesn't know under that name is left
    out of the look-up: model names are telling enough. A model's name may begin with its provider's, as
    LiteLLM (`openai/gpt-4o-mini`) and Gemini (`models/gemini-2.5-flash`) write it.
    """
    listed = _listed(model, provider)
    if listed is None:
        return None
    counts = (input_tokens, output_tokens, cache_read_tokens, cache_write_tokens)
    if by_modality and (found := _calculate(*listed, counts, at_unix_ns, by_modality)):
        return found  # where the parts contradict the whole, they price nothing
    units = _unit_prices(*listed, at_unix_ns // MINUTE_NS)
    if units is None or not _is_priceable(counts):
        return _calculate(*listed, counts, at_unix_ns)
    return _multiplied(units, counts)


@lru_cache(maxsize=2048)
def _listed(model: str, provider: str | None) -> tuple[str, str | None] | None:
    """The names of model and provider that the list knows."""
    if provider in LOCAL:
        return None
    return next((names for names in _names(model, provider) if _calculate(*names, (1, 1, 0, 0), 0)), None)


def _names(model: str, provider: str | None) -> Iterator[tuple[str, str | None]]:
    """Model and provider as they may stand in the list, the best guess first."""
    if provider:
        yield model, provider
    yield model, None
    for _ in range(MAX_PREFIXES):
        prefix, _, rest = model.partition("/")
        if prefix in LOCAL:
            return
        if not rest:
            break
        yield rest, prefix
        yield rest, None
        model = rest
    for known in PROVIDERS:
        yield model, known


@lru_cache(maxsize=4096)
def _unit_prices(model: str, provider: str | None, minute: int) -> UnitPrices | None:
    """Prices of a token: of input, output, from and to the cache; None where there is more to it.

    Such as a price that depends on how many there are. The list works a price out in a third of a
    millisecond; what it says of some counts is compared with what these prices come to.
    """
    at_unix_ns = minute * MINUTE_NS
    singles = [_calculate(model, provider, counts, at_unix_ns) for counts in ONE_OF_EACH]
    if None in singles:
        return None
    taken, given, read, written = (Decimal(repr(each.total)) / COUNTED for each in singles if each)
    units = (taken, given, read, written)
    agrees = all(
        _multiplied(units, counts) == _calculate(model, provider, counts, at_unix_ns) for counts in CHECKED
    )
    return units if agrees else None


def _multiplied(units: UnitPrices, counts: tuple[int, int, int, int]) -> Price:
    taken, given, read, written = counts
    for_input = (taken - read - written) * units[0] + read * units[2] + written * units[3]
    for_output = given * units[1]
    return Price(input=float(for_input), output=float(for_output), total=float(for_input + for_output))


def _is_priceable(counts: tuple[int, int, int, int]) -> bool:
    """The list refuses a cached part that is larger than the whole; such counts price nothing."""
    taken, _, read, written = counts
    return read + written <= taken and max(counts) <= MAX_UNIT_COUNT


def _calculate(
    model: str,
    provider: str | None,
    tokens: tuple[int, int, int, int],
    at_unix_ns: int,
    by_modality: Mapping[str, int] = NO_MODALITIES,
) -> Price | None:
    from genai_prices import Usage, calc_price

    taken, given, read, written = tokens
    if not _is_priceable(tokens):
        return None
    try:
        found = calc_price(
            Usage(
                input_tokens=taken,
                output_tokens=given,
                cache_read_tokens=read or None,
                cache_write_tokens=written or None,
                **by_modality,
            ),
            model_ref=model,
            provider_id=provider,
            genai_request_timestamp=_time(at_unix_ns),
        )
    except (LookupError, ValueError):
        return None
    return Price(
        input=float(found.input_price), output=float(found.output_price), total=float(found.total_price)
    )


def _time(unix_ns: int) -> datetime | None:
    # a span's clock may say anything; the list has no prices before its own time
    return datetime.fromtimestamp(unix_ns / 1e9, UTC) if 0 < unix_ns < 4e18 else None
