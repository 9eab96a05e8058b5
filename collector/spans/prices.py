"""What a model call costs by the public price list, the data of the `genai-prices` package. Pure.

It is loaded on the first call: 0.3 s and 47 MB that a service without unpriced calls never needs.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

MAX_UNIT_COUNT = 2**53


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
    out of the look-up: model names are telling enough.
    """
    return next(
        (
            found
            for known in ([provider, None] if provider else [None])
            if _is_listed(model, known)
            and (
                found := _calculate(
                    model,
                    known,
                    (input_tokens, output_tokens, cache_read_tokens, cache_write_tokens),
                    at_unix_ns,
                )
            )
        ),
        None,
    )


@lru_cache(maxsize=2048)
def _is_listed(model: str, provider: str | None) -> bool:
    return _calculate(model, provider, (1, 1, 0, 0), 0) is not None


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
