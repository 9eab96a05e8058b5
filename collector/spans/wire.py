"""OTLP's export request, read with resources and the attributes of spans as their bytes. Pure.

A message within another one is written as bytes are (Protocol Buffers, "Encoding"), so what is a message by
OTLP's definition can be read as bytes. Most attributes of a span are never looked at, and the others say the
same few things again and again (shapes.py).
"""

from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

# imported for what they put into the pool
from opentelemetry.proto.trace.v1 import trace_pb2

TRACE = "opentelemetry.proto.trace.v1"
PACKAGE = "sidespan.index"
_F = FieldDescriptorProto
REPEATED, SINGLE = _F.LABEL_REPEATED, _F.LABEL_OPTIONAL


def _message(name: str, *fields: tuple[str, int, Any, Any, str]) -> DescriptorProto:
    listed = [
        _F(name=field, number=number, type=type, label=label, type_name=f".{message}" if message else None)
        for field, number, type, label, message in fields
    ]
    return DescriptorProto(name=name, field=listed)


def _file() -> FileDescriptorProto:
    """The fields that facts are read from, by their numbers in opentelemetry/proto/trace/v1/trace.proto."""
    span = _message(
        "Span",
        ("trace_id", 1, _F.TYPE_BYTES, SINGLE, ""),
        ("span_id", 2, _F.TYPE_BYTES, SINGLE, ""),
        ("parent_span_id", 4, _F.TYPE_BYTES, SINGLE, ""),
        ("name", 5, _F.TYPE_STRING, SINGLE, ""),
        ("start_time_unix_nano", 7, _F.TYPE_FIXED64, SINGLE, ""),
        ("end_time_unix_nano", 8, _F.TYPE_FIXED64, SINGLE, ""),
        ("attributes", 9, _F.TYPE_BYTES, REPEATED, ""),
        ("events", 11, _F.TYPE_MESSAGE, REPEATED, f"{TRACE}.Span.Event"),
        ("links", 13, _F.TYPE_MESSAGE, REPEATED, f"{TRACE}.Span.Link"),
        ("status", 15, _F.TYPE_MESSAGE, SINGLE, f"{TRACE}.Status"),
    )
    scope = _message("ScopeSpans", ("spans", 2, _F.TYPE_MESSAGE, REPEATED, f"{PACKAGE}.Span"))
    resource = _message(
        "ResourceSpans",
        ("resource", 1, _F.TYPE_BYTES, SINGLE, ""),
        ("scope_spans", 2, _F.TYPE_MESSAGE, REPEATED, f"{PACKAGE}.ScopeSpans"),
    )
    export = _message("Export", ("resource_spans", 1, _F.TYPE_MESSAGE, REPEATED, f"{PACKAGE}.ResourceSpans"))
    return FileDescriptorProto(
        name="sidespan/index.proto",
        package=PACKAGE,
        syntax="proto3",
        dependency=[each.DESCRIPTOR.name for each in (trace_pb2,)],
        message_type=[span, scope, resource, export],
    )


def _export_class() -> Any:
    pool = descriptor_pool.Default()
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Export"))


Export = _export_class()
"""As ExportTraceServiceRequest, but `attributes` of a span are bytes of KeyValues,
and `resource` is bytes of a Resource."""
