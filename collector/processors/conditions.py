"""Which spans a processor works on. Pure."""

import re
from collections.abc import Callable
from fnmatch import translate

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from collector.settings.processors import ConditionSettings

KINDS = {
    "internal": Span.SPAN_KIND_INTERNAL,
    "server": Span.SPAN_KIND_SERVER,
    "client": Span.SPAN_KIND_CLIENT,
    "producer": Span.SPAN_KIND_PRODUCER,
    "consumer": Span.SPAN_KIND_CONSUMER,
}
STATUSES = {
    "unset": Status.STATUS_CODE_UNSET,
    "ok": Status.STATUS_CODE_OK,
    "error": Status.STATUS_CODE_ERROR,
}

Matches = Callable[[Span, ScopeSpans, ResourceSpans], bool]


def matcher(condition: ConditionSettings) -> Matches:
    """A test for spans: whether everything that the condition gives holds."""
    name, scope, service = (_glob(text) for text in (condition.name, condition.scope, condition.service))
    values = {key: re.compile(translate(pattern)) for key, pattern in condition.attributes.items()}
    kind = None if condition.kind is None else KINDS[condition.kind]
    status = None if condition.status is None else STATUSES[condition.status]

    def matches(span: Span, of: ScopeSpans, by: ResourceSpans) -> bool:
        return (
            (name is None or name.match(span.name) is not None)
            and (kind is None or span.kind == kind)
            and (status is None or span.status.code == status)
            and (scope is None or scope.match(of.scope.name) is not None)
            and (service is None or service.match(_service(by)) is not None)
            and (not values or _have(span, values))
        )

    return matches


def _glob(pattern: str | None) -> re.Pattern[str] | None:
    return None if pattern is None else re.compile(translate(pattern))


def _service(by: ResourceSpans) -> str:
    named = (a.value.string_value for a in by.resource.attributes if a.key == "service.name")
    return next(named, "")


def _have(span: Span, values: dict[str, re.Pattern[str]]) -> bool:
    found = {a.key: text_of(a.value) for a in span.attributes if a.key in values}
    return all(key in found and pattern.match(found[key]) for key, pattern in values.items())


def text_of(value: AnyValue) -> str:
    """A plain value as text; empty for lists, maps and bytes."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return str(value.bool_value).lower()
        case "int_value":
            return str(value.int_value)
        case "double_value":
            return str(value.double_value)
        case _:
            return ""
