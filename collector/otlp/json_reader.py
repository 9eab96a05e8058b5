"""An export in JSON as one in protobuf: the document, its bounds, and what a wrong span costs. Pure.

    text -> bound on values -> resources and scopes, spans as raw text -> span by span -> protobuf's bytes

What is wrong outside of spans refuses the request; what is wrong inside one refuses that span, and its
neighbours are kept. Both name the path in the document. Spans are read one at a time: only one is ever
held as anything but text or bytes. The JSON mapping is proto3's with OTLP's exceptions
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding):

    traceId, spanId, parentSpanId     hex in any case, not base64
    keys                              lowerCamelCase only; snake_case is an unknown field
    unknown fields                    ignored at any depth; of a key that stands twice the last counts
    enums                             integers; names of that enum are tolerated
    integers                          numbers or strings, also "1e3" and 2.0, if exact and in range
    doubles                           numbers or strings, "NaN", "Infinity" and "-Infinity"
    bytesValue                        base64, standard or URL-safe, with or without padding
    null                              as if absent; in a list it is wrong

Text is UTF-8, with a byte order mark or without (RFC 8259, 8.1).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import DecodeError, Raw, Struct, ValidationError
from msgspec.json import Decoder

from collector.model.batch import Rejection, Signal
from collector.model.errors import Reason, Rejected
from collector.otlp.json_messages import LogRecord, Resource, Scope, Span
from collector.otlp.json_scalars import TooDeep, TooMany, Wrong
from collector.otlp.json_text import MAX_VALUES, count_values, mended
from collector.otlp.json_wire import (
    LOG_RECORD_FIELDS,
    RESOURCE_FIELDS,
    SCOPE_FIELDS,
    SPAN_FIELDS,
    Fields,
    Room,
    delimited,
    write_message,
)
from collector.otlp.shapes import SPANS, SignalShape

# values in one span, one resource or one scope: what is held of it at once is about 200 bytes a value
MAX_VALUES_OF_ONE = 1_000_000
# protobuf's decoder reads 100 levels; so many are around a value of a resource, a scope, a span
DECODER_LEVELS, RESOURCE_LEVELS, SCOPE_LEVELS, SPAN_LEVELS = 100, 5, 6, 6
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

NOTHING = Raw()


class ScopeSpans(Struct, gc=False, rename={"items": "spans"}):
    """The spans of one library, as text."""

    scope: Raw = NOTHING
    items: list[Raw] | None = None
    schemaUrl: Raw = NOTHING


class ResourceSpans(Struct, gc=False, rename={"scopes": "scopeSpans"}):
    """The spans of one sender."""

    resource: Raw = NOTHING
    scopes: list[ScopeSpans] | None = None
    schemaUrl: Raw = NOTHING


class TracesDocument(Struct, gc=False, rename={"resources": "resourceSpans"}):
    """The top level of an export of spans."""

    resources: list[ResourceSpans] | None = None


class ScopeLogs(Struct, gc=False, rename={"items": "logRecords"}):
    """The log records of one library, as text."""

    scope: Raw = NOTHING
    items: list[Raw] | None = None
    schemaUrl: Raw = NOTHING


class ResourceLogs(Struct, gc=False, rename={"scopes": "scopeLogs"}):
    """The log records of one sender."""

    resource: Raw = NOTHING
    scopes: list[ScopeLogs] | None = None
    schemaUrl: Raw = NOTHING


class LogsDocument(Struct, gc=False, rename={"resources": "resourceLogs"}):
    """The top level of an export of log records."""

    resources: list[ResourceLogs] | None = None


class Form(NamedTuple):
    """How the documents of one signal are read."""

    documents: Decoder[Any]
    items: Decoder[Any]
    fields: Fields
    nothing: tuple[Struct, Struct]


FORMS: Mapping[Signal, Form] = {
    Signal.TRACES: Form(Decoder(TracesDocument), Decoder(Span), SPAN_FIELDS, (ResourceSpans(), ScopeSpans())),
    Signal.LOGS: Form(
        Decoder(LogsDocument), Decoder(LogRecord), LOG_RECORD_FIELDS, (ResourceLogs(), ScopeLogs())
    ),
}
_resources = Decoder(Resource | None)
_scopes = Decoder(Scope | None)
_urls = Decoder(str | None)


def read_json(
    text: bytes, *, max_depth: int, max_spans: int, shape: SignalShape = SPANS
) -> tuple[bytes, list[Rejection]]:
    """The export in `text` as a serialized message, and a rejection for each refused span or log record.

    No attribute in it nests over `max_depth`. Resources and scopes without any are left out.
    Raises Rejected: malformed, too_large (too many values), too_many_spans.
    """
    text = text.removeprefix(BYTE_ORDER_MARK)
    values = count_values(text)
    if values > MAX_VALUES:
        raise Rejected(Reason.TOO_LARGE, f"the body holds over {MAX_VALUES} values; send smaller batches")
    resources = _document(text, shape).resources or []
    count = sum(len(scope.items or ()) for part in resources for scope in part.scopes or ())
    if count > max_spans:
        raise Rejected(
            Reason.TOO_MANY_SPANS,
            f"{count} {shape.word}s in one request, {max_spans} are allowed; send smaller batches",
        )
    writer = _Writer(shape, max_depth=max_depth, check_values=values > MAX_VALUES_OF_ONE)
    try:
        return b"".join(writer.resources(resources)), writer.rejections
    except Wrong as wrong:
        raise _refused(wrong) from wrong


def _document(text: bytes, shape: SignalShape) -> Any:
    documents = FORMS[shape.signal].documents
    try:
        try:
            return documents.decode(text)
        except ValidationError:
            raise
        except (DecodeError, RecursionError):
            return documents.decode(mended(text))
    except ValidationError as error:
        raise _refused(_wrong_type(error)) from error
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = "" if b"\0" not in text[:4] else "; JSON is sent in UTF-8"
        raise Rejected(
            Reason.MALFORMED,
            f"the body is not an {shape.request.DESCRIPTOR.name} in JSON: {error}{hint}",
        ) from error


class _Writer:
    """Turns the parts of one document into bytes, and collects what it refuses."""

    def __init__(self, shape: SignalShape, *, max_depth: int, check_values: bool) -> None:
        self.rejections: list[Rejection] = []
        self._form = FORMS[shape.signal]
        self._names = shape.json_names
        self._check_values = check_values
        self._resource_room = Room(max_depth, DECODER_LEVELS - RESOURCE_LEVELS)
        self._scope_room = Room(max_depth, DECODER_LEVELS - SCOPE_LEVELS)
        self._span_room = Room(max_depth, DECODER_LEVELS - SPAN_LEVELS)

    def resources(self, parts: Sequence[ResourceSpans | ResourceLogs]) -> Iterator[bytes]:
        """The resources that hold anything, each as a field of the request. Raises Wrong."""
        nothing = self._form.nothing[0]
        for index, part in enumerate(parts):
            if part == nothing:  # a body may hold a million
                continue
            try:
                resource = self._outer(part.resource, "resource", _resources, self._resource)
                scopes = b"".join(self._scopes(part.scopes or (), index))
                schema_url = self._outer(part.schemaUrl, "schemaUrl", _urls, _schema_url)
            except Wrong as wrong:
                raise wrong.under(f"{self._names[0]}[{index}]") from wrong
            if scopes:
                yield delimited(1, resource + scopes + schema_url)

    def _scopes(self, parts: Sequence[ScopeSpans | ScopeLogs], above: int) -> Iterator[bytes]:
        nothing = self._form.nothing[1]
        for index, part in enumerate(parts):
            if part == nothing:
                continue
            try:
                scope = self._outer(part.scope, "scope", _scopes, self._scope)
                items = b"".join(self._items(part.items or (), above, index))
                schema_url = self._outer(part.schemaUrl, "schemaUrl", _urls, _schema_url)
            except Wrong as wrong:
                raise wrong.under(f"{self._names[1]}[{index}]") from wrong
            if items:
                yield delimited(2, scope + items + schema_url)

    def _items(self, items: Sequence[Raw], resource: int, scope: int) -> Iterator[bytes]:
        names = self._names
        for index, text in enumerate(items):
            try:
                item = self._read(self._form.items, text)
                yield delimited(2, write_message(item, self._form.fields, self._span_room))
            except Wrong as wrong:
                wrong.under(f"{names[0]}[{resource}].{names[1]}[{scope}].{names[2]}[{index}]")
                self.rejections.append(Rejection(reason=wrong.reason, message=str(wrong)))

    def _outer(self, text: Raw, name: str, decoder: Decoder[Any], write: Callable[[Any], bytes]) -> bytes:
        """What `write` makes of a part that isn't in a span; of null nothing. Raises Wrong."""
        if text is NOTHING:
            return b""
        try:
            part = self._read(decoder, text)
            return b"" if part is None else write(part)
        except Wrong as wrong:
            raise wrong.under(name) from wrong

    def _resource(self, resource: Resource) -> bytes:
        return delimited(1, write_message(resource, RESOURCE_FIELDS, self._resource_room))

    def _scope(self, scope: Scope) -> bytes:
        return delimited(1, write_message(scope, SCOPE_FIELDS, self._scope_room))

    def _read(self, decoder: Decoder[Any], text: Raw) -> Any:
        """One message. Raises Wrong."""
        size = memoryview(text).nbytes
        if size > MAX_VALUES_OF_ONE and self._has_too_many_values(text):
            raise TooMany(f"holds over {MAX_VALUES_OF_ONE} values")
        try:
            return decoder.decode(text)
        except ValidationError as error:
            raise _wrong_type(error) from error
        except RecursionError as error:
            raise TooDeep("nests too many lists and maps inside each other") from error
        except (DecodeError, UnicodeDecodeError) as error:
            raise Wrong("has a text that is no Unicode: half a surrogate pair, or not UTF-8") from error

    def _has_too_many_values(self, text: Raw) -> bool:
        return self._check_values and count_values(bytes(text), MAX_VALUES_OF_ONE) > MAX_VALUES_OF_ONE


def _schema_url(url: str) -> bytes:
    return delimited(3, url.encode()) if url else b""


def _refused(wrong: Wrong) -> Rejected:
    return Rejected(wrong.reason, str(wrong))


TYPES = {
    "array": "an array",
    "object": "an object",
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "null": "null",
}
# how msgspec words a wrong type; of another wording the words are passed on
WRONG_TYPE = re.compile(r"Expected `([a-z |]+)`, got `([a-z]+)`(?: - at `\$\.?(.*)`)?")
OTHER_PROBLEM = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?")


def _wrong_type(error: ValidationError) -> Wrong:
    if found := WRONG_TYPE.fullmatch(str(error)):
        expected, got, path = found.groups()
        allowed = [name for name in expected.split(" | ") if name != "null"]
        if "float" in allowed:  # a number of any kind
            allowed = [name for name in allowed if name != "int"]
        names = " or ".join(TYPES.get(name, name) for name in allowed)
        return Wrong(f"must be {names}, is {TYPES.get(got, got)}", path or "")
    found = OTHER_PROBLEM.fullmatch(str(error))
    return Wrong(found[1] if found else str(error), (found and found[2]) or "")
