"""Attributes that hold an object, each decoded once and put into one form. Pure.

    langfuse.observation.usage_details    parts that add up: input without what was cached, output without
                                          the reasoning; or what the model's API answered
    langfuse.observation.cost_details     US dollars by the same parts
    gen_ai.usage.raw                      what the model's API answered (Logfire)

Counts come out under MLflow's names (mlflow/tracing/constant.py, TokenUsageKey), `reasoning_tokens` and
`audio_input_tokens` for each modality and way, with cached tokens as a part of the input and reasoning as a
part of the output.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from collector.spans.conventions import MODALITIES, MODALITY_INPUTS, MODALITY_OUTPUTS
from collector.spans.json_text import read_json
from collector.spans.readers import amount, count

INPUT, OUTPUT, TOTAL = "input_tokens", "output_tokens", "total_tokens"
READ, WRITTEN, REASONING = "cache_read_input_tokens", "cache_creation_input_tokens", "reasoning_tokens"

# names in the answers of OpenAI (chat, responses), Anthropic, Bedrock and Gemini
_API_INPUT = ("prompt_tokens", INPUT, "inputTokens", "prompt_token_count", "promptTokenCount")
_API_OUTPUT = ("completion_tokens", OUTPUT, "outputTokens", "candidates_token_count", "candidatesTokenCount")
_API_TOTAL = (TOTAL, "totalTokens", "total_token_count", "totalTokenCount")
_API_READ = (READ, "cacheReadInputTokens", "cached_content_token_count", "cachedContentTokenCount")
_API_WRITTEN = (WRITTEN, "cacheWriteInputTokens")
_API_THOUGHTS = ("thoughts_token_count", "thoughtsTokenCount")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
# lists of Gemini: [{"modality": "AUDIO", "tokenCount": 25}]
_INPUT_LISTS = ("prompt_tokens_details", "promptTokensDetails")
_OUTPUT_LISTS = ("candidates_tokens_details", "candidatesTokensDetails", "responseTokensDetails")
_LISTED_COUNT = ("tokenCount", "token_count")
_GEMINI = frozenset({"candidates_token_count", "candidatesTokenCount"})
_MODALITY_NAMES = tuple(f"{kind}_tokens" for kind in (*MODALITY_INPUTS, *MODALITY_OUTPUTS))
_API_NAMES = frozenset({*_API_INPUT, *_API_OUTPUT, *_API_TOTAL, REASONING, *_MODALITY_NAMES})

Counts = dict[str, int]
NOTHING: Mapping[str, Any] = MappingProxyType({})


def api_usage(value: Any) -> Any:
    """What a model's API says of its usage."""
    if not isinstance(value, dict):
        return value
    taken, given, total = (_first(value, names) for names in (_API_INPUT, _API_OUTPUT, _API_TOTAL))
    details_in, details_out = (_object(value, names) for names in (_INPUT_DETAILS, _OUTPUT_DETAILS))
    read = _first(value, _API_READ)
    written = _first(value, _API_WRITTEN)
    thoughts = _first(value, _API_THOUGHTS)
    if taken is not None and total is None and not details_in and "prompt_tokens" not in value:
        taken += (read or 0) + (written or 0)  # Anthropic and Bedrock count what was cached apart
    if given is not None and thoughts is not None and not _GEMINI.isdisjoint(value):
        given += thoughts  # Gemini counts them apart
    return _known(
        {
            INPUT: taken,
            OUTPUT: given,
            TOTAL: total,
            READ: read if read is not None else _first(details_in, ("cached_tokens", "cache_read")),
            WRITTEN: written
            if written is not None
            else _first(details_in, ("cache_write_tokens", "cache_creation_tokens", "cache_creation")),
            REASONING: _first(details_out, (REASONING, "reasoning"))
            if details_out
            else _first(value, (REASONING, *_API_THOUGHTS)),
            **_modalities("input", details_in or _listed(value, _INPUT_LISTS), value),
            **_modalities("output", details_out or _listed(value, _OUTPUT_LISTS), value),
        }
    )


def langfuse_usage(value: Any) -> Any:
    """Langfuse's `usage_details` (https://langfuse.com/docs/observability/features/token-and-cost-tracking).

    Its SDK takes each part out of `input` and `output`, so that all of them add up to `total`. Where `input`
    and `output` alone come to the total, the sender has left the parts in.
    """
    if not isinstance(value, dict) or not _API_NAMES.isdisjoint(value):
        return api_usage(value)
    parts = {key: found for key, each in value.items() if (found := count(each)) is not None}
    taken, given, total = parts.pop("input", None), parts.pop("output", None), parts.pop("total", None)
    parts_in = {key: each for key, each in parts.items() if _is_input(key)}
    parts_out = {key: each for key, each in parts.items() if key.startswith("output_")}
    adds_up = total is None or (taken or 0) + (given or 0) != total
    read, written = _cached(parts_in)
    return _known(
        {
            INPUT: _sum(taken, _exclusive(parts_in)) if adds_up else taken,
            OUTPUT: _sum(given, _exclusive(parts_out)) if adds_up else given,
            TOTAL: total,
            READ: read,
            WRITTEN: written,
            REASONING: _sum(None, [each for key, each in parts_out.items() if _is_reasoning(key)]),
            **_modalities("input", _without_prefix(parts_in, "input_")),
            **_modalities("output", _without_prefix(parts_out, "output_")),
        }
    )


def langfuse_cost(value: Any) -> Any:
    """Langfuse's `cost_details`: `total`, else the sum of the parts; all zeros stand for no price."""
    if not isinstance(value, dict):
        return value
    parts = {key: found for key, each in value.items() if (found := amount(each)) is not None}
    if "total" not in parts and parts:
        parts["total"] = sum(parts.values())
    return parts if any(parts.values()) else {}


def _as_it_is(value: Any) -> Any:
    return value


# attribute -> what becomes of the object in it
OBJECTS: Mapping[str, Callable[[Any], Any]] = {
    "mlflow.chat.tokenUsage": _as_it_is,
    "mlflow.llm.cost": _as_it_is,
    "metadata": _as_it_is,
    "langfuse.trace.metadata": _as_it_is,
    "langfuse.observation.usage_details": langfuse_usage,
    "langfuse.observation.cost_details": langfuse_cost,
    "gen_ai.usage.raw": api_usage,
}


def open_objects(names: Iterable[str], attributes: dict[str, Any]) -> None:
    """Decode the objects among the attributes, in place; `names` are those of OBJECTS that are there."""
    for key in names:
        value = attributes[key]
        if isinstance(value, str):
            value = read_json(value)
            if isinstance(value, str):  # MLflow's SDK encodes what the application has encoded already
                value = read_json(value)
            if value is None:  # no JSON: plain words
                continue
        attributes[key] = OBJECTS[key](value)


def _first(value: Mapping[str, Any], names: Iterable[str]) -> int | None:
    return next((found for name in names if (found := count(value.get(name))) is not None), None)


def _object(value: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    return next((found for name in names if isinstance(found := value.get(name), dict)), {})


def _modalities(
    direction: str, details: Mapping[str, Any], whole: Mapping[str, Any] = NOTHING
) -> Mapping[str, int | None]:
    """`audio_tokens` and the like among what is told of one way, or of both under the names of facts."""
    found = {f"{each}_{direction}_tokens": _first(details, (f"{each}_tokens", each)) for each in MODALITIES}
    return {name: _first(whole, (name,)) if count is None else count for name, count in found.items()}


def _listed(value: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    """Gemini's list of counts by modality, as OpenAI's object of the same."""
    found = next((each for name in names if isinstance(each := value.get(name), list)), [])
    return {
        f"{str(each.get('modality')).lower()}_tokens": _first(each, _LISTED_COUNT)
        for each in found
        if isinstance(each, dict)
    }


def _without_prefix(parts: Mapping[str, int], prefix: str) -> Mapping[str, int]:
    """The parts by the rest of their names: `input_audio_tokens`, and Vertex's `input_modality_AUDIO`."""
    return {key.removeprefix(prefix).removeprefix("modality_").lower(): each for key, each in parts.items()}


def _known(counts: Mapping[str, int | None]) -> Counts:
    return {name: value for name, value in counts.items() if value is not None}


def _sum(first: int | None, others: Iterable[int]) -> int | None:
    listed = [*others] if first is None else [first, *others]
    return sum(listed) if listed else None


def _is_input(key: str) -> bool:
    return key.startswith(("input_", "cache_", "cached_"))


def _is_reasoning(key: str) -> bool:
    return "reasoning" in key or "thought" in key


def _is_written(key: str) -> bool:
    return "cache" in key and ("creation" in key or "write" in key) and "ephemeral" not in key


def _exclusive(parts: Mapping[str, int]) -> list[int]:
    """Those that are taken out of `input` or `output`: not a service tier, nor what is part of another."""
    without_lifetimes = any(_is_written(key) and value for key, value in parts.items())
    return [
        value
        for key, value in parts.items()
        if "_priority" not in key and not ("ephemeral" in key and without_lifetimes)
    ]


def _cached(parts: Mapping[str, int]) -> tuple[int | None, int | None]:
    """Read from the cache, and written to it."""
    written = [value for key, value in parts.items() if _is_written(key)]
    if not any(written):
        written += [value for key, value in parts.items() if "ephemeral" in key]
    read = [
        value
        for key, value in parts.items()
        if "cache" in key and not _is_written(key) and "ephemeral" not in key
    ]
    return _sum(None, read), _sum(None, written)
