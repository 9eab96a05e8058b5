"""One OTLP span as canonical facts. Pure: no I/O, no clock, no logging.

    Span + resource attributes -> decode what the table names -> kind -> each fact's row -> SpanFacts

The same facts come out whether the span is the client's own or was read back from MLflow, where JSON text
has become objects and numbers in text have become numbers. Nothing a client sends raises here; what raises
all the same costs the span its attributes, if the caller gives `faults` to note it in.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.model.faults import Faults
from collector.spans.conventions import (
    ADDED,
    RESOURCE_TABLE,
    TABLE,
    CostSource,
    ObservationKind,
    Row,
    Source,
)
from collector.spans.plausible import FIRST_WORD, first_token_seconds, sound_cost
from collector.spans.readers import session_id, shortened, text
from collector.spans.reading import Attributes, Readable, first, read
from collector.spans.repeated import Repeated, remembered, repeated
from collector.spans.shapes import Encoded, shape_of
from collector.spans.tags import tags_of
from collector.spans.told_names import RESULT, TellingNames, telling_names
from collector.spans.usage import listed_cost, read_tokens
from collector.spans.usage_objects import open_objects
from collector.spans.values import MAX_LINKS, NO_TOKENS, RETRIES, SpanFacts, SpanLink, Tokens, made_of
from collector.spans.vocabulary import FINISH_EVENTS, finish_reason_of

View = Mapping[str, AnyValue] | None
MAX_TIME_NS = 2**63 - 1
TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8
# longer values are decoded each time
MAX_REMEMBERED_BYTES, MAX_REMEMBERED = 128, 16_384
MAX_RESOURCE_BYTES, MAX_RESOURCES = 4096, 1024


def export_facts(
    request: ExportTraceServiceRequest,
    *,
    trace_id: bytes | None = None,
    faults: Faults | None = None,
    scored: list[bytes] | None = None,
) -> Iterator[SpanFacts]:
    """The facts of the spans in an export, in its order; of one trace only, if its 16 bytes are given.

    The export may be `collector.spans.wire.Export`, which is the same and faster. `scored` gets the ids of
    the spans that may carry judgements (scores.py): their names are looked at here anyway.
    """
    for resource_spans in request.resource_spans:
        said = _resource(resource_spans.resource, faults)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                if trace_id is None or span.trace_id == trace_id:
                    yield span_facts(span, said, faults, scored=scored)


def facts(span: Span, resource_attributes: Attributes, *, is_marked: bool = False) -> SpanFacts:
    """The facts of one span; `resource_attributes` are its resource's, decoded.

    A span without an end has lasted no time; one without a start began at its end. `is_marked`: it was read
    back from MLflow, where `sidespan.added` names what is not the client's word; on its way in a client may
    have written that name itself.
    """
    return _facts(span, _resource_facts(resource_attributes), is_marked=is_marked)


ResourceFacts = Mapping[str, str]


def resource_facts(attributes: Iterable[KeyValue], faults: Faults | None = None) -> ResourceFacts:
    """What a resource says of all its spans."""
    try:
        return _resource_facts(decode_attributes(attributes))
    except Exception as error:
        if faults is None:
            raise
        faults.add(error)
        return {}


# the exports of a process name the same resource
_resources: dict[bytes, ResourceFacts] = {}


def _resource(resource: Resource | bytes, faults: Faults | None) -> ResourceFacts:
    """What a resource says, which `wire.Export` gives as its bytes."""
    if not isinstance(resource, bytes):
        return resource_facts(resource.attributes, faults)
    found = _resources.get(resource)
    if found is None:
        found = resource_facts(Resource.FromString(resource).attributes, faults)
        if len(resource) <= MAX_RESOURCE_BYTES:
            if len(_resources) >= MAX_RESOURCES:
                _resources.clear()
            _resources[resource] = found
    return found


def span_facts(
    span: Span,
    resource: ResourceFacts,
    faults: Faults | None = None,
    view: View = None,
    scored: list[bytes] | None = None,
) -> SpanFacts:
    """The facts of one span; where a bug keeps them from being read, those that need no attribute.

    `view` are its attributes by name, if the caller has them.
    """
    try:
        return _facts(span, resource, view, scored=scored)
    except Exception as error:
        if faults is None:
            raise
        faults.add(error)
        if scored is not None:
            scored.append(span.span_id)
        return bare_facts(span)


def bare_facts(span: Span) -> SpanFacts:
    """Ids, name, times and whether it failed: what can be told of any span."""
    start, end = _times(span)
    return SpanFacts(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        name=shortened(span.name),
        start_unix_ns=start,
        end_unix_ns=end,
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
    )


def _facts(
    span: Span,
    resource: ResourceFacts,
    view: View = None,
    *,
    is_marked: bool = False,
    scored: list[bytes] | None = None,
) -> SpanFacts:
    telling, attributes, common = _told(span, view, is_marked=is_marked)
    events, links = span.events, span.links
    if scored is not None and (telling.has_scores or (events and _has_result(span))):
        scored.append(span.span_id)
    readable, kind = common.plan, common.kind
    said, by = read(readable.varying, attributes)
    start, end = _times(span)
    values = {
        **common.facts,
        **said,
        **resource,
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex() or None,
        "start_unix_ns": start,
        "end_unix_ns": end,
    }
    tokens = NO_TOKENS
    if readable.counts:
        tokens, values["input_excluded_cache"] = _tokens(readable.counts, attributes)
        values["tokens"] = tokens
    if readable.sums:
        values["aggregated_tokens"], _ = _tokens(readable.sums, attributes)
    if tokens is not NO_TOKENS or "cost_usd" in said:
        cost = _cost(said, by, common, attributes, tokens, start)
        values["cost_usd"], values["cost_source"] = cost
    if "session" in said:
        values["session"] = _session(said, by, readable.sessions, attributes, kind)
    if FIRST_WORD in said:
        values[FIRST_WORD] = first_token_seconds(said, by, end - start)
    if telling.may_have_tags:
        values["tags"] = tags_of(attributes)
    if links:
        values["links"] = _links(span)
    if events and "finish_reason" not in values:
        values["finish_reason"] = _finish_reason_in_events(span, kind)
    if span.status.code == Status.STATUS_CODE_ERROR:
        values |= _error(span, common)
    return made_of(SpanFacts, values)


def _tokens(readable: Readable, attributes: Attributes) -> tuple[Tokens, bool]:
    """The counts, and whether the input came without its cached part."""
    counts, by = read(readable, attributes)
    return read_tokens(counts, excludes_cache="input_tokens" in by and by["input_tokens"].excludes_cache)


def _error(span: Span, common: Repeated) -> dict[str, Any]:
    """Why a span has failed."""
    error_type = common.error_type or _exception(span, "type")
    caused = error_type if error_type in RETRIES else None
    return {
        "is_error": True,
        "error_type": error_type,
        "error_message": _error_message(span),
        "retry_cause": common.facts.get("retry_cause") or caused,
    }


def _cost(
    said: Mapping[str, Any],
    by: Mapping[str, Source],
    common: Repeated,
    attributes: Attributes,
    tokens: Tokens,
    start_unix_ns: int,
) -> tuple[float | None, CostSource]:
    """What somebody said, else what the price list says."""
    if "cost_usd" in said:
        if said["cost_usd"] or not tokens.total:
            return said["cost_usd"], by["cost_usd"].cost
        if other := first(TABLE["cost_usd"], attributes, common.kind, sound_cost):
            return other[0], other[1].cost
    model, provider = common.facts.get("model"), common.facts.get("provider")
    return listed_cost(common.kind, tokens, model, provider, start_unix_ns)


def _resource_facts(attributes: Attributes) -> ResourceFacts:
    found = {
        fact: first(sources, attributes, ObservationKind.OTHER, text)
        for fact, sources in RESOURCE_TABLE.items()
    }
    return {fact: value[0] for fact, value in found.items() if value}


def _told(span: Span, view: View, *, is_marked: bool) -> tuple[TellingNames, dict[str, Any], Repeated]:
    """What the names tell, the attributes that facts are left to be read from, and what is read of others."""
    if view is None and not isinstance(span, Span):
        encoded: Encoded = span.attributes[:]
        span_name = span.name
        shape = shape_of(encoded, span_name)
        telling = shape.telling
        places = shape.varying if telling.is_plain else shape.told
        attributes = {name: _value(encoded[place]) for name, place in places}
        open_objects(telling.objects, attributes)
        return telling, attributes, remembered(shape, encoded, span_name, _value)
    if view is not None:
        telling = telling_names(tuple(view))
        # by far the most are texts
        attributes = {key: (value := view[key]).string_value or decode(value) for key in telling.told}
    else:
        telling = telling_names(tuple([each.key for each in span.attributes]))
        wanted = frozenset(telling.told)
        attributes = {each.key: decode(each.value) for each in span.attributes if each.key in wanted}
    if is_marked:
        telling = telling_names(tuple(clients_own(attributes)))
    open_objects(telling.objects, attributes)
    return telling, attributes, repeated(telling, attributes, span.name)


def _value(encoded: bytes) -> Any:
    value = _remembered.get(encoded)
    return _decoded(encoded) if value is None else value


# attributes of few bytes, of which there are few: names of models, numbers of tokens
_remembered: dict[bytes, Any] = {}


def _decoded(encoded: bytes) -> Any:
    """OTLP's value as Python's, from the bytes of a KeyValue."""
    value = decode(KeyValue.FromString(encoded).value)
    # a list or an object may be changed by who reads it
    if len(encoded) <= MAX_REMEMBERED_BYTES and isinstance(value, str | int | float):
        if len(_remembered) >= MAX_REMEMBERED:
            _remembered.clear()
        _remembered[encoded] = value
    return value


def _has_result(span: Span) -> bool:
    return any(event.name == RESULT for event in span.events)


def decode_attributes(
    attributes: Iterable[KeyValue], keys: Collection[str] | None = None, prefixes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """OTLP attributes as a dictionary; only those named in `keys` or begun by `prefixes`, if given.

    The last of a name wins.
    """
    return {
        attribute.key: decode(attribute.value)
        for attribute in attributes
        if keys is None or attribute.key in keys or attribute.key.startswith(prefixes)
    }


def decode(value: AnyValue) -> Any:
    """OTLP's value as Python's."""
    # protobuf's decoder allows 100 levels of messages, so this recursion is bounded
    name = value.WhichOneof("value")
    if name == "string_value":  # by far the most
        return value.string_value
    if name == "array_value":
        return [decode(item) for item in value.array_value.values]
    if name == "kvlist_value":
        return {item.key: decode(item.value) for item in value.kvlist_value.values}
    return None if name is None else getattr(value, name)


def clients_own(attributes: dict[str, Any]) -> dict[str, Any]:
    """Without what the service itself had added before MLflow stored the span."""
    added = attributes.get(ADDED)
    if isinstance(added, list):
        for key in filter(lambda name: isinstance(name, str), added):
            attributes.pop(key, None)
    return attributes


def _links(span: Span) -> tuple[SpanLink, ...]:
    """The first of its links that have ids of OTLP's length, each once."""
    found = dict.fromkeys(
        SpanLink(trace_id=link.trace_id.hex(), span_id=link.span_id.hex())
        for link in span.links[: 4 * MAX_LINKS]
        if len(link.trace_id) == TRACE_ID_BYTES and len(link.span_id) == SPAN_ID_BYTES
    )
    return tuple(found)[:MAX_LINKS]


def _times(span: Span) -> tuple[int, int]:
    # after the year 2262 is nowhere: the index and MLflow hold 63 bits
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if start > MAX_TIME_NS or end > MAX_TIME_NS:
        start, end = min(start, MAX_TIME_NS), min(end, MAX_TIME_NS)
    start = start or end
    return start, end if end > start else start


def _session(
    said: Mapping[str, Any],
    by: Mapping[str, Source],
    sources: Row,
    attributes: Attributes,
    kind: ObservationKind,
) -> str | None:
    """The session that the client named.

    `session.id` is passed over where it repeats the conversation id: OpenInference writes pydantic-ai's
    id of a single run over the session.
    """
    session: str | None = said.get("session")
    if session is None or by["session"].key != "session.id" or session != said.get("conversation"):
        return session
    others = [each for each in sources if each.key != "session.id"]
    found = first(others, attributes, kind, session_id)
    return found[0] if found else None


def _finish_reason_in_events(span: Span, kind: ObservationKind) -> str | None:
    """Strands tells it of the last message only, in an event."""
    if kind is not ObservationKind.LLM or not span.events:
        return None
    for event in reversed(span.events):
        if key := FINISH_EVENTS.get(event.name):
            return finish_reason_of(decode_attributes(event.attributes, {key}).get(key))
    return None


def _error_message(span: Span) -> str | None:
    return text(span.status.message) or _exception(span, "message")


def _exception(span: Span, part: str) -> str | None:
    """`exception.type` or `exception.message` of the last exception that the span recorded."""
    key = f"exception.{part}"
    for event in reversed(span.events):
        if event.name == "exception":
            return text(decode_attributes(event.attributes, {key}).get(key))
    return None
