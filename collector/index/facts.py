"""One OTLP span as canonical facts. Pure: no I/O, no clock, no logging.

    Span + resource attributes -> decode what the table names -> kind -> each fact's row -> SpanFacts

The same facts come out whether the span is the client's own or was read back from MLflow, where JSON text
has become objects and numbers in text have become numbers. Nothing a client sends raises here.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.index.conventions import (
    AGGREGATED,
    HTTP_MARKS,
    KEYS,
    KINDS,
    RESOURCE_TABLE,
    TABLE,
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

T = TypeVar("T")
Attributes = Mapping[str, Any]
TOOL_SPAN_PREFIX = "execute_tool "


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanFacts:
    """What one span says, in one vocabulary. Ids are lower-case hex; times are nanoseconds since 1970.

    `tokens` are the span's own, `aggregated_tokens` a sum over its run that some frameworks give on agent
    spans. `input_excluded_cache` marks that the client counted its input without the cached part, which
    has been added. `session` is what the client named as the session; `conversation` the id that
    frameworks make up for each run.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    name: str
    start_unix_ns: int
    end_unix_ns: int
    kind: Kind = Kind.OTHER
    is_http: bool = False
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
            and self.retry_attempt is not None
            and self.retry_max is not None
            and self.retry_attempt <= self.retry_max
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
    attributes = decode_attributes(span.attributes, KEYS)
    kind = _kind(attributes)

    def read(fact: str, reader: Callable[[Any], T | None], table: Mapping[str, Row] = TABLE) -> T | None:
        found = first(table[fact], attributes, kind, reader)
        return found[0] if found else None

    def of_resource(fact: str) -> str | None:
        found = first(RESOURCE_TABLE[fact], resource_attributes, kind, text)
        return found[0] if found else None

    tokens, excluded = _tokens({name: read(name, count) for name in AGGREGATED})
    aggregated, _ = _tokens({name: read(name, count, AGGREGATED) for name in AGGREGATED})
    cost = first(TABLE["cost_usd"], attributes, kind, amount)
    first_token = first(TABLE["time_to_first_token_seconds"], attributes, kind, amount)
    start, end = _times(span)
    is_error = span.status.code == Status.STATUS_CODE_ERROR
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
        trace_name=read("trace_name", text),
        model=read("model", text),
        request_model=read("request_model", text),
        provider=read("provider", text),
        agent=read("agent", text),
        tool=read("tool", text) or _tool_from_name(span, kind),
        workflow=read("workflow", text),
        session=_session(attributes, kind, conversation),
        conversation=conversation,
        user=read("user", text),
        tokens=tokens,
        aggregated_tokens=aggregated,
        input_excluded_cache=excluded,
        cost_usd=cost[0] if cost else None,
        cost_source=cost[1].cost if cost else CostSource.NONE,
        time_to_first_token_seconds=first_token[0] / first_token[1].divisor if first_token else None,
        finish_reason=read("finish_reason", text),
        is_error=is_error,
        error_type=(read("error_type", text) or _exception(span, "type")) if is_error else None,
        error_message=_error_message(span) if is_error else None,
        retry_cause=read("retry_cause", text),
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


def decode_attributes(attributes: Iterable[KeyValue], keys: Collection[str] | None = None) -> dict[str, Any]:
    """OTLP attributes as a dictionary; only those named in `keys`, if given. The last of a name wins."""
    return {
        attribute.key: _decode(attribute.value)
        for attribute in attributes
        if keys is None or attribute.key in keys
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


def _tokens(found: Mapping[str, int | None]) -> tuple[Tokens, bool]:
    """The counts put in order, and whether the input came without its cached part (counting rule 2)."""
    given, output = found["input_tokens"], found["output_tokens"]
    cache_read, cache_write = found["cache_read_tokens"], found["cache_write_tokens"]
    cached = (cache_read or 0) + (cache_write or 0)
    excluded = given is not None and given < cached
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
