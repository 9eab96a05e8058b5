"""One OTLP span as canonical facts. Pure: no I/O, no clock, no logging.

    Span + resource attributes -> decode what the table names -> kind -> each fact's row -> SpanFacts

The same facts come out whether the span is the client's own or was read back from MLflow, where JSON text
has become objects and numbers in text have become numbers. Nothing a client sends raises here.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.index.conventions import (
    ADDED,
    AGGREGATED,
    HTTP_MARKS,
    KEYS,
    KINDS,
    MAX_TAGS,
    NO_TAGS,
    RESOURCE_TABLE,
    ROLL_UPS,
    TABLE,
    TAG_LISTS,
    TAG_OBJECTS,
    TAG_PREFIXES,
    CostSource,
    Kind,
    Row,
    Source,
    amount,
    count,
    member,
    shortened,
    text,
)
from collector.index.prices import price

T = TypeVar("T")
Attributes = Mapping[str, Any]
TOOL_SPAN_PREFIX = "execute_tool "
# pydantic-ai 1.x marks a tool's wish for another try by its exception alone
RETRIES = frozenset({"pydantic_ai.exceptions.ToolRetryError", "pydantic_ai.exceptions.ModelRetry"})
PRICED_KINDS = frozenset({Kind.LLM, Kind.EMBEDDING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens of one call, or a sum of calls; None where nobody said.

    `input` holds what was read from and written to the cache, `output` the reasoning: those are parts,
    never to be added.
    """

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None

    @property
    def known(self) -> bool:
        """Whether there is a number to count; parts alone are none."""
        return not (self.input is None and self.output is None and self.total is None)


NO_TOKENS = Tokens()


def add_tokens(parts: Iterable[Tokens]) -> Tokens:
    """The sum; what none of the parts knows stays unknown."""
    listed = list(parts)
    sums = {}
    for field in fields(Tokens):
        known = [value for part in listed if (value := getattr(part, field.name)) is not None]
        sums[field.name] = sum(known) if known else None
    return Tokens(**sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanFacts:
    """What one span says, in one vocabulary. Ids are lower-case hex; times are nanoseconds since 1970.

    `tokens` are the span's own, `aggregated_tokens` a sum over its run that some frameworks give on agent
    spans; a roll-up is a model call whose parts are spans of their own. `input_excluded_cache` marks that
    the client counted its input without the cached part, which has been added. `session` is what the client
    named as the session; `conversation` the id that frameworks make up for each run. `tags` are (key,
    value), at most MAX_TAGS.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    name: str
    start_unix_ns: int
    end_unix_ns: int
    kind: Kind = Kind.OTHER
    is_http: bool = False
    is_roll_up: bool = False
    trace_name: str | None = None
    model: str | None = None
    request_model: str | None = None
    provider: str | None = None
    agent: str | None = None
    tool: str | None = None
    workflow: str | None = None
    session: str | None = None
    conversation: str | None = None
    user: str | None = None
    tokens: Tokens = NO_TOKENS
    aggregated_tokens: Tokens = NO_TOKENS
    input_excluded_cache: bool = False
    cost_usd: float | None = None
    cost_source: CostSource = CostSource.NONE
    time_to_first_token_seconds: float | None = None
    finish_reason: str | None = None
    prompt_version: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    is_error: bool = False
    error_type: str | None = None
    error_message: str | None = None
    retry_cause: str | None = None
    retry_attempt: int | None = None
    retry_max: int | None = None
    service: str | None = None
    service_version: str | None = None
    environment: str | None = None

    @property
    def duration_ns(self) -> int:
        """End minus start; never negative."""
        return self.end_unix_ns - self.start_unix_ns

    @property
    def is_recovered_retry(self) -> bool:
        """An error that its agent was told of and may try again: not an error of the trace."""
        return (
            self.is_error
            and self.retry_cause is not None
            and (self.retry_attempt is None or self.retry_max is None or self.retry_attempt <= self.retry_max)
        )


def export_facts(request: ExportTraceServiceRequest, *, trace_id: bytes | None = None) -> Iterator[SpanFacts]:
    """The facts of the spans in an export, in its order; of one trace only, if its 16 bytes are given."""
    for resource_spans in request.resource_spans:
        resource = decode_attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                if trace_id is None or span.trace_id == trace_id:
                    yield facts(span, resource)


def facts(span: Span, resource_attributes: Attributes) -> SpanFacts:
    """The facts of one span; `resource_attributes` are its resource's, decoded.

    A span without an end has lasted no time; one without a start began at its end.
    """
    attributes = clients_own(decode_attributes(span.attributes, KEYS, TAG_PREFIXES))
    kind = _kind(attributes)

    def read(fact: str, reader: Callable[[Any], T | None], table: Mapping[str, Row] = TABLE) -> T | None:
        found = first(table[fact], attributes, kind, reader)
        return found[0] if found else None

    def of_resource(fact: str) -> str | None:
        found = first(RESOURCE_TABLE[fact], resource_attributes, kind, text)
        return found[0] if found else None

    taken = first(TABLE["input_tokens"], attributes, kind, count)
    tokens, excluded = _tokens(
        {name: read(name, count) for name in AGGREGATED},
        excludes_cache=bool(taken and taken[1].excludes_cache),
    )
    aggregated, _ = _tokens({name: read(name, count, AGGREGATED) for name in AGGREGATED})
    model, provider = read("model", text), read("provider", text)
    first_token = first(TABLE["time_to_first_token_seconds"], attributes, kind, amount)
    start, end = _times(span)
    cost_usd, cost_source = _cost(attributes, kind, tokens, model, provider, start)
    is_error = span.status.code == Status.STATUS_CODE_ERROR
    error_type = (read("error_type", text) or _exception(span, "type")) if is_error else None
    conversation = read("conversation", text)
    return SpanFacts(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        name=shortened(span.name),
        start_unix_ns=start,
        end_unix_ns=end,
        kind=kind,
        is_http=not HTTP_MARKS.isdisjoint(attributes),
        is_roll_up=_is_roll_up(attributes),
        trace_name=read("trace_name", text),
        model=model,
        request_model=read("request_model", text),
        provider=provider,
        agent=read("agent", text),
        tool=read("tool", text) or _tool_from_name(span, kind),
        workflow=read("workflow", text),
        session=_session(attributes, kind, conversation),
        conversation=conversation,
        user=read("user", text),
        tokens=tokens,
        aggregated_tokens=aggregated,
        input_excluded_cache=excluded,
        cost_usd=cost_usd,
        cost_source=cost_source,
        time_to_first_token_seconds=first_token[0] / first_token[1].divisor if first_token else None,
        finish_reason=read("finish_reason", text),
        prompt_version=read("prompt_version", text),
        tags=_tags(attributes),
        is_error=is_error,
        error_type=error_type,
        error_message=_error_message(span) if is_error else None,
        retry_cause=read("retry_cause", text) or (error_type if error_type in RETRIES else None),
        retry_attempt=read("retry_attempt", count),
        retry_max=read("retry_max", count),
        service=of_resource("service"),
        service_version=of_resource("service_version") or read("service_version", text),
        environment=of_resource("environment") or read("environment", text),
    )


def first(
    sources: Iterable[Source], attributes: Attributes, kind: Kind, reader: Callable[[Any], T | None]
) -> tuple[T, Source] | None:
    """The first of `sources` that is there and readable: its value, and which one it was."""
    for source in sources:
        if source.key not in attributes or (source.only is not None and source.only is not kind):
            continue
        raw = attributes[source.key]
        value = reader(member(raw, source.part) if source.part else raw)
        if value is not None:
            return value, source
    return None


def decode_attributes(
    attributes: Iterable[KeyValue], keys: Collection[str] | None = None, prefixes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """OTLP attributes as a dictionary; only those named in `keys` or begun by `prefixes`, if given.

    The last of a name wins.
    """
    return {
        attribute.key: _decode(attribute.value)
        for attribute in attributes
        if keys is None or attribute.key in keys or attribute.key.startswith(prefixes)
    }


def _decode(value: AnyValue) -> Any:
    # protobuf's decoder allows 100 levels of messages, so this recursion is bounded
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_decode(item) for item in value.array_value.values]
        case "kvlist_value":
            return {item.key: _decode(item.value) for item in value.kvlist_value.values}
        case name:
            return getattr(value, name)


def _kind(attributes: Attributes) -> Kind:
    for key, kinds in KINDS.items():
        value = attributes.get(key)
        if isinstance(value, str) and (kind := kinds.get(value.lower())):
            return kind
    if text(attributes.get("gen_ai.tool.name")):
        return Kind.TOOL
    if first(TABLE["request_model"], attributes, Kind.OTHER, text):
        return Kind.LLM
    return Kind.OTHER


def clients_own(attributes: dict[str, Any]) -> dict[str, Any]:
    """Without what the service itself had added before MLflow stored the span."""
    added = attributes.get(ADDED)
    if isinstance(added, list):
        for key in filter(lambda name: isinstance(name, str), added):
            attributes.pop(key, None)
    return attributes


def _is_roll_up(attributes: Attributes) -> bool:
    return any(str(attributes.get(key, "")).lower() in values for key, values in ROLL_UPS.items())


def _tokens(found: Mapping[str, int | None], *, excludes_cache: bool = False) -> tuple[Tokens, bool]:
    """The counts put in order, and whether the input came without its cached part (counting rule 2)."""
    given, output = found["input_tokens"], found["output_tokens"]
    cache_read, cache_write = found["cache_read_tokens"], found["cache_write_tokens"]
    cached = (cache_read or 0) + (cache_write or 0)
    excluded = given is not None and cached > 0 and (excludes_cache or given < cached)
    taken = given + cached if given is not None and excluded else given
    tokens = Tokens(
        input=taken,
        output=output,
        total=_total(taken, output, found["total_tokens"]),
        cache_read=cache_read,
        cache_write=cache_write,
        reasoning=found["reasoning_tokens"],
    )
    return tokens, excluded


def _total(taken: int | None, output: int | None, given: int | None) -> int | None:
    if taken is not None and output is not None:
        return taken + output
    if given is not None:
        return given
    return taken if output is None else output


def _cost(
    attributes: Attributes,
    kind: Kind,
    tokens: Tokens,
    model: str | None,
    provider: str | None,
    start_unix_ns: int,
) -> tuple[float | None, CostSource]:
    """US dollars and who says so: whoever measured it, else the price list for a model call with tokens."""
    if given := first(TABLE["cost_usd"], attributes, kind, amount):
        return given[0], given[1].cost
    if kind not in PRICED_KINDS or model is None or not tokens.known:
        return None, CostSource.NONE
    found = price(
        model=model,
        provider=provider,
        input_tokens=tokens.input or 0,
        output_tokens=tokens.output or 0,
        cache_read_tokens=tokens.cache_read or 0,
        cache_write_tokens=tokens.cache_write or 0,
        at_unix_ns=start_unix_ns,
    )
    return (found.total, CostSource.TABLE) if found else (None, CostSource.NONE)


def _tags(attributes: Attributes) -> tuple[tuple[str, str], ...]:
    """What the client calls tags or metadata, by name; words without a value stand for themselves."""
    found: dict[str, str] = {}
    for key in TAG_LISTS:
        words = attributes.get(key)
        for word in words if isinstance(words, list) else [words]:
            if name := text(word):
                found.setdefault(name, "")
    for key in TAG_OBJECTS:
        found = {**_members(attributes.get(key)), **found}
    for key, value in attributes.items():
        for prefix in TAG_PREFIXES:
            if key.startswith(prefix) and (name := key[len(prefix) :]) and (said := text(value)):
                found.setdefault(name, said)
    return tuple(sorted((name, value) for name, value in found.items() if name not in NO_TAGS))[:MAX_TAGS]


def _members(value: Any) -> dict[str, str]:
    """The plain members of an object, or of JSON text of one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(value, dict):
        return {}
    return {str(name): said for name, member in value.items() if (said := text(member)) is not None}


def _times(span: Span) -> tuple[int, int]:
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    start = start or end
    return start, max(start, end)


def _session(attributes: Attributes, kind: Kind, conversation: str | None) -> str | None:
    """The session that the client named.

    `session.id` is passed over where it repeats the conversation id: OpenInference writes pydantic-ai's
    id of a single run over the session.
    """
    sources = [
        source
        for source in TABLE["session"]
        if source.key != "session.id" or text(attributes.get("session.id")) != conversation
    ]
    found = first(sources, attributes, kind, text)
    return found[0] if found else None


def _tool_from_name(span: Span, kind: Kind) -> str | None:
    return text(span.name.removeprefix(TOOL_SPAN_PREFIX)) if kind is Kind.TOOL else None


def _error_message(span: Span) -> str | None:
    return text(span.status.message) or _exception(span, "message")


def _exception(span: Span, part: str) -> str | None:
    """`exception.type` or `exception.message` of the last exception that the span recorded."""
    key = f"exception.{part}"
    for event in reversed(span.events):
        if event.name == "exception":
            return text(decode_attributes(event.attributes, {key}).get(key))
    return None
