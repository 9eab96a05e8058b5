"""What MLflow needs on one span, from its facts alone. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.harmonise.content import View, content_additions
from collector.harmonise.mlflow_limits import is_object_of_numbers
from collector.harmonise.parts import Addition, Part
from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.counting import MODEL_KINDS
from collector.spans.facts import decode
from collector.spans.prices import price
from collector.spans.readers import unquoted
from collector.spans.usage import modality_counts
from collector.spans.values import SpanFacts, Tokens

SPAN_TYPE = "mlflow.spanType"
USAGE = "mlflow.chat.tokenUsage"
COST = "mlflow.llm.cost"
MODEL, PROVIDER = "mlflow.llm.model", "mlflow.llm.provider"
REASONING = "gen_ai.usage.reasoning.output_tokens"
CHAT = ("gen_ai.operation.name", "llm.request.type")

# kind -> MLflow's SpanType; a chat is its own (MLflow's chart of model calls counts both)
TYPES: Mapping[ObservationKind, str] = {
    kind: kind.value for kind in ObservationKind if kind is not ObservationKind.OTHER
} | {ObservationKind.OTHER: "UNKNOWN"}


def span_additions(
    facts: SpanFacts, view: View, parts: frozenset[Part], events: Sequence[Span.Event] = ()
) -> list[Addition]:
    """The additions for one span; `view` are its attributes by name."""
    additions: list[Addition] = []
    if Part.TYPES in parts:
        additions.append(_type(facts.kind, view))
    if Part.TOKENS in parts and facts.kind in MODEL_KINDS:
        additions += _tokens(facts, view)
    if Part.COST in parts and facts.kind in MODEL_KINDS and not facts.is_roll_up:
        if facts.cost_usd is not None and facts.cost_source is not CostSource.MLFLOW:
            additions.append(Addition(part=Part.COST, key=COST, value=cost_text(facts, facts.cost_usd)))
    if Part.CAPS in parts:
        additions += _readable(view, additions)
    if Part.CONTENT in parts:
        additions += content_additions(facts.kind, view, events, is_root=facts.parent_span_id is None)
    return additions


def usage_text(tokens: Tokens) -> str:
    """JSON of `mlflow.chat.tokenUsage` (mlflow/tracing/constant.py, TokenUsageKey)."""
    named = {
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "total_tokens": tokens.total,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation_input_tokens": tokens.cache_write,
    }
    return json.dumps({name: value for name, value in named.items() if value is not None})


def cost_text(facts: SpanFacts, usd: float) -> str:
    """JSON of `mlflow.llm.cost` (CostKey): the total is `usd`, its halves as the price list divides it."""
    listed = facts.model and price(
        model=facts.model,
        provider=facts.provider,
        input_tokens=facts.tokens.input or 0,
        output_tokens=facts.tokens.output or 0,
        cache_read_tokens=facts.tokens.cache_read or 0,
        cache_write_tokens=facts.tokens.cache_write or 0,
        by_modality=modality_counts(facts.tokens),
        at_unix_ns=facts.start_unix_ns,
    )
    if not listed or not listed.total:
        return json.dumps({"total_cost": usd})
    taken = round(usd * listed.input / listed.total, 12)
    return json.dumps({"input_cost": taken, "output_cost": round(usd - taken, 12), "total_cost": usd})


def _type(kind: ObservationKind, view: View) -> Addition:
    name = TYPES[kind]
    if kind is ObservationKind.LLM and any(
        key in view and unquoted(view[key].string_value).lower() == "chat" for key in CHAT
    ):
        name = "CHAT_MODEL"
    own = view[SPAN_TYPE].string_value if SPAN_TYPE in view else ""
    said = unquoted(own)
    # UNKNOWN is what MLflow's SDK writes when nobody said anything
    if said == "UNKNOWN" and kind is not ObservationKind.OTHER:
        return Addition(part=Part.TYPES, key=SPAN_TYPE, value=name, replaces=True)
    # MLflow would group spans by a type with JSON's quotes around it
    return Addition(part=Part.TYPES, key=SPAN_TYPE, value=said or name, replaces=said != own)


def _readable(view: View, additions: list[Addition]) -> list[Addition]:
    """In the place of usage and cost that MLflow would fail at: our own, else nothing."""
    own = {addition.key: addition.value for addition in additions}
    return [
        Addition(part=Part.CAPS, key=key, value=own.get(key, nothing), replaces=True)
        for key, nothing in ((USAGE, ""), (COST, "{}"))
        if key in view and not is_object_of_numbers(_plain(view[key]))
    ]


def _plain(value: AnyValue) -> Any:
    return value.string_value if value.HasField("string_value") else decode(value)


def model_additions(facts: SpanFacts, view: View) -> list[Addition]:
    """The model and the provider of a call, under the names by which MLflow groups costs."""
    additions = []
    for key, value in ((MODEL, facts.model), (PROVIDER, facts.provider)):
        if value is not None:
            quoted = key in view and unquoted(own := view[key].string_value) != own
            additions.append(
                Addition(part=Part.TOKENS, key=key, value=unquoted(own) if quoted else value, replaces=quoted)
            )
    return additions


def _tokens(facts: SpanFacts, view: View) -> list[Addition]:
    additions = []
    if facts.tokens.known and not facts.is_roll_up:
        additions.append(Addition(part=Part.TOKENS, key=USAGE, value=usage_text(facts.tokens)))
    additions += model_additions(facts, view)
    if facts.tokens.reasoning is not None:
        additions.append(Addition(part=Part.TOKENS, key=REASONING, value=str(facts.tokens.reasoning)))
    return additions
