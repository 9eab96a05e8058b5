"""What a model call costs by the public price list, the data of the `genai-prices` package. Pure.

It is loaded on the first call: 0.3 s and 47 MB that a service without unpriced calls never needs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

MAX_UNIT_COUNT = 2**53
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
    at_unix_ns: int = 0,
) -> Price | None:
    """The price at that time (0: today's), or None where the list doesn't know the model.

    `input_tokens` include the cached ones. A provider that the list doesn't know under that name is left
    out of the look-up: model names are telling enough. A model's name may begin with its provider's, as
    LiteLLM (`openai/gpt-4o-mini`) and Gemini (`models/gemini-2.5-flash`) write it.
    """
    listed = _listed(model, provider)
    counts = (input_tokens, output_tokens, cache_read_tokens, cache_write_tokens)
    return _calculate(*listed, counts, at_unix_ns) if listed else None


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


def _calculate(
    model: str, provider: str | None, tokens: tuple[int, int, int, int], at_unix_ns: int
) -> Price | None:
    from genai_prices import Usage, calc_price

    taken, given, read, written = tokens
    # the list refuses a cached part that is larger than the whole; such counts price nothing
    if read + written > taken or max(tokens) > MAX_UNIT_COUNT:
        return None
    try:
        found = calc_price(
            Usage(
                input_tokens=taken,
                output_tokens=given,
                cache_read_tokens=read or None,
                cache_write_tokens=written or None,
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
