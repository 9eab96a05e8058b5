"""One model call that several instrumentations tell of: a model span right inside another one. Pure.

    chat gpt-4o-mini      pydantic-ai            1,000 -> 100 tokens, 400 of them from the cache
      POST /v1/messages   an HTTP client
        messages.create   OpenInference          1,000 -> 100 tokens

Both spans mean the same tokens. Their facts are put together on the inner one, which counts as the call; the
outer one says nothing of its own. A model span around several calls, or around an agent's or a tool's, is
no such span: it is left as it is, and counting.py decides.
"""

from collections.abc import Sequence
from dataclasses import fields, replace

from collector.spans.conventions import MODALITY_INPUTS, MODALITY_OUTPUTS, CostSource, ObservationKind
from collector.spans.counting import MODEL_KINDS
from collector.spans.tree import Tree
from collector.spans.usage import listed_cost
from collector.spans.values import NO_TOKENS, SpanFacts, Tokens

# what may stand between the two: an HTTP client's span, a step of a framework
BETWEEN = frozenset({ObservationKind.OTHER, ObservationKind.CHAIN})
MANY = 2
INPUT_PARTS = ("cache_read", "cache_write", *MODALITY_INPUTS)
OUTPUT_PARTS = ("reasoning", *MODALITY_OUTPUTS)


def united(tree: Tree) -> Tree:
    """The tree with the facts of each such call on its deepest span; the same tree where there is none."""
    inner = same_calls(tree)
    if not any(each is not None for each in inner):
        return tree
    spans = list(tree.spans)
    for position in reversed(range(len(spans))):  # the innermost pair first
        call = inner[position]
        if call is not None:
            spans[call] = _unite(spans[call], spans[position])
            spans[position] = _silent(spans[position])
    return replace(tree, spans=spans)


def same_calls(tree: Tree) -> list[int | None]:
    """For each span the position of the model call below it that it tells of again."""
    inner: list[int | None] = [None] * len(tree.spans)
    below: list[list[int]] = [[] for _ in tree.spans]
    for position in reversed(range(len(tree.spans))):
        span, calls = tree.spans[position], below[position]
        if span.kind in MODEL_KINDS:
            if len(calls) == 1 and not span.is_roll_up and tree.spans[calls[0]].kind is span.kind:
                inner[position] = calls[0]
            calls = calls or [position]
        elif calls and span.kind not in BETWEEN:
            calls = calls * MANY  # an agent's or a tool's calls are none of the span around it
        if span.model_attempt is not None:
            calls = []  # a failed attempt of a fallback is a call beside the one that answered
        parent = tree.parents[position]
        if calls and parent is not None and len(below[parent]) < MANY:
            below[parent] += calls
    return inner


def _silent(span: SpanFacts) -> SpanFacts:
    return replace(
        span,
        tokens=NO_TOKENS,
        aggregated_tokens=NO_TOKENS,
        cost_usd=None,
        cost_source=CostSource.NONE,
        time_to_first_token_seconds=None,
        finish_reason=None,
    )


def _unite(inner: SpanFacts, outer: SpanFacts) -> SpanFacts:
    """What either says of the call; where both do, the inner one's word."""
    tokens = _tokens(inner.tokens, outer.tokens)
    answered = _answering(inner, outer)
    call = replace(
        inner,
        model=answered or inner.model or outer.model,
        request_model=inner.request_model or outer.request_model,
        response_model=answered,
        provider=inner.provider or outer.provider,
        tokens=tokens,
        aggregated_tokens=_tokens(inner.aggregated_tokens, outer.aggregated_tokens),
        input_excluded_cache=outer.input_excluded_cache
        if tokens.input == outer.tokens.input != inner.tokens.input
        else inner.input_excluded_cache,
        time_to_first_token_seconds=_either(
            inner.time_to_first_token_seconds, outer.time_to_first_token_seconds
        ),
        finish_reason=inner.finish_reason or outer.finish_reason,
        prompt_version=inner.prompt_version or outer.prompt_version,
    )
    usd, source = _cost(call, (inner, outer))
    return replace(call, cost_usd=usd, cost_source=source)


def _answering(inner: SpanFacts, outer: SpanFacts) -> str | None:
    """The model that answered; an instrumentation of streams may take the requested one for it."""
    said, other = inner.response_model, outer.response_model
    if said is None or (other is not None and said == inner.request_model):
        return other
    return said


def _tokens(inner: Tokens, outer: Tokens) -> Tokens:
    """The counts of the one that knows more kinds, with those parts that only the other one knows.

    A part is taken over only where both mean the same whole: an input without its cached part is another.
    """
    most, least = (outer, inner) if _known_kinds(outer) > _known_kinds(inner) else (inner, outer)
    if not most.known or not least.known:
        return most if most.known else least
    parts: list[str] = []
    if most.input == least.input:
        parts += INPUT_PARTS
    if most.output == least.output:
        parts += OUTPUT_PARTS
    taken = {name: getattr(least, name) for name in parts if getattr(most, name) is None}
    return replace(most, **taken) if any(value is not None for value in taken.values()) else most


def _known_kinds(tokens: Tokens) -> int:
    return sum(getattr(tokens, field.name) is not None for field in fields(Tokens))


def _cost(call: SpanFacts, told: Sequence[SpanFacts]) -> tuple[float | None, CostSource]:
    """What a client said, else what MLflow did, else what the list says of the counts put together."""
    for source in (CostSource.CLIENT, CostSource.MLFLOW):
        for each in told:
            if each.cost_source is source and each.cost_usd is not None:
                return each.cost_usd, source
    inner = told[0]
    if (call.tokens, call.model, call.provider) == (inner.tokens, inner.model, inner.provider):
        return inner.cost_usd, inner.cost_source
    return listed_cost(call.kind, call.tokens, call.model, call.provider, call.start_unix_ns)


def _either(one: float | None, other: float | None) -> float | None:
    return other if one is None else one
