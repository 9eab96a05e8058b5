"""Where each fact of a span was read from, and which conventions it speaks. Pure; for people who ask why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.spans.conventions import (
    AGGREGATED,
    KEYS,
    KINDS,
    RESOURCE_TABLE,
    TABLE,
    TAG_LISTS,
    TAG_OBJECTS,
    TAG_PREFIXES,
    CostSource,
    ObservationKind,
)
from collector.spans.facts import READERS, Attributes, clients_own, decode_attributes, facts, first
from collector.spans.readers import count, text, unquoted
from collector.spans.usage_objects import OBJECTS, open_objects
from collector.spans.values import SpanFacts, Tokens

# how an attribute's name begins -> whose it is; the longest beginning counts
CONVENTIONS: Mapping[str, str] = {
    "gen_ai.": "OpenTelemetry GenAI",
    "openinference.": "OpenInference",
    "llm.": "OpenInference",
    "llm.usage.": "OpenLLMetry",
    "llm.request.type": "OpenLLMetry",
    "traceloop.": "OpenLLMetry",
    "pydantic_ai.": "pydantic-ai",
    "logfire.": "pydantic-ai",
    "ai.": "Vercel AI SDK",
    "langfuse.": "Langfuse",
    "lmnr.": "Laminar",
    "mlflow.": "MLflow",
    "mastra.": "Mastra",
    "litellm.": "LiteLLM",
    "span.type": "Claude Code",
    "http.": "OpenTelemetry HTTP",
}


# where each convention is defined
DEFINED_AT: Mapping[str, str] = {
    "OpenTelemetry GenAI": "https://github.com/open-telemetry/semantic-conventions-genai",
    "OpenInference": "https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md",
    "OpenLLMetry": "https://github.com/traceloop/openllmetry/tree/main/packages/opentelemetry-semantic-conventions-ai",
    "pydantic-ai": "https://ai.pydantic.dev/logfire/",
    "Vercel AI SDK": "https://ai-sdk.dev/docs/ai-sdk-core/telemetry",
    "Langfuse": "https://github.com/langfuse/langfuse-python/blob/main/langfuse/_client/attributes.py",
    "Laminar": "https://github.com/lmnr-ai/lmnr-python",
    "MLflow": "https://github.com/mlflow/mlflow/blob/master/mlflow/tracing/constant.py",
    "Mastra": "https://mastra.ai/docs/observability/overview",
    "LiteLLM": "https://docs.litellm.ai/docs/observability/opentelemetry_integration",
    "Claude Code": "https://docs.claude.com/en/docs/claude-code/monitoring-usage",
    "OpenTelemetry HTTP": "https://opentelemetry.io/docs/specs/semconv/http/http-spans/",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One fact and the attribute that says so; "" where it follows from something else."""

    name: str
    value: str
    source: str


def conventions(attributes: Attributes) -> list[str]:
    """The conventions that the attributes belong to."""
    found = set()
    for key in attributes:
        begins = [prefix for prefix in CONVENTIONS if key.startswith(prefix)]
        if begins:
            found.add(CONVENTIONS[max(begins, key=len)])
    return sorted(found)


def sourced_facts(span: Span, resource_attributes: Attributes) -> list[Fact]:
    """Every fact that is known of the span, with its source."""
    known = facts(span, resource_attributes, is_marked=True)
    attributes = clients_own(decode_attributes(span.attributes, KEYS, TAG_PREFIXES))
    open_objects(tuple(filter(OBJECTS.__contains__, attributes)), attributes)
    found = [
        Fact(name=name, value=value, source=_source(name, known.kind, attributes, resource_attributes))
        for name, value in _values(known)
    ]
    if known.cost_source is CostSource.TABLE:
        found = [
            Fact(name=fact.name, value=fact.value, source="the public price list")
            if fact.name == "cost_usd"
            else fact
            for fact in found
        ]
    return found


def _values(known: SpanFacts) -> list[tuple[str, str]]:
    """The facts that are set, as text; tokens one by one. What every span has is left out."""
    values: list[tuple[str, str]] = [("kind", known.kind.value)]
    for field in fields(SpanFacts):
        value = getattr(known, field.name)
        if isinstance(value, Tokens):
            prefix = "" if field.name == "tokens" else "aggregated_"
            parts = ((part.name, getattr(value, part.name)) for part in fields(Tokens))
            values += [(f"{prefix}{name}_tokens", str(part)) for name, part in parts if part is not None]
        elif field.name in FACTS and value is not None:
            values.append((field.name, str(value)))
    values += [(f"tag {name}", value) for name, value in known.tags]
    return values


SUMMED = ("input_tokens", "output_tokens")
FACTS = frozenset(TABLE) | frozenset(RESOURCE_TABLE) | {"error_message"}


def _source(name: str, kind: ObservationKind, attributes: Attributes, resource: Attributes) -> str:
    if name == "kind":
        return next((key for key, kinds in KINDS.items() if _names(attributes.get(key), kinds)), "")
    if name.startswith("tag "):
        return _tag_source(name.removeprefix("tag "), attributes)
    if name == "total_tokens" and all(first(TABLE[f], attributes, kind, count) for f in SUMMED):
        return "input and output"
    for table, values, place in ((RESOURCE_TABLE, resource, "resource "), (TABLE, attributes, "")):
        if name in table and (found := first(table[name], values, kind, _reader(name))):
            return place + found[1].key
    aggregated = name.removeprefix("aggregated_")
    if name != aggregated and (found := first(AGGREGATED[aggregated], attributes, kind, count)):
        return found[1].key
    return ""


def _names(value: Any, kinds: Mapping[str, ObservationKind]) -> bool:
    return isinstance(value, str) and unquoted(value).lower() in kinds


def _reader(name: str) -> Callable[[Any], Any]:
    return READERS.get(name, text)


def _tag_source(name: str, attributes: Attributes) -> str:
    for prefix in TAG_PREFIXES:
        if f"{prefix}{name}" in attributes:
            return f"{prefix}{name}"
    return next((key for key in (*TAG_OBJECTS, *TAG_LISTS) if name in str(attributes.get(key, ""))), "")
