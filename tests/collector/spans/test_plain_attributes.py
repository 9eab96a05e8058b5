"""Attributes of MLflow's JSON that are read without protobuf's parser are those that it would read."""

from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.spans.mlflow_trace import stored_span

VALUES: list[dict[str, Any]] = [
    {"string_value": "x"},
    {"string_value": ""},
    {"string_value": "\ud800"},
    {"int_value": 5},
    {"int_value": "5"},
    {"int_value": 2**70},
    {"int_value": True},
    {"bool_value": True},
    {"bool_value": False},
    {"double_value": 1},
    {"double_value": "NaN"},
    {"array_value": {"values": [{"int_value": 1}]}},
    {"unknown": "x"},
    {"string_value": "x", "int_value": 1},
    {},
]


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_an_attribute_is_what_protobufs_parser_makes_of_it(value: dict[str, Any]) -> None:
    attribute = {"key": "k", "value": value}
    expected = Span()
    try:
        json_format.ParseDict({"attributes": [attribute]}, expected, ignore_unknown_fields=True)
    except json_format.ParseError:
        expected = Span()
    # as text: no number is equal to NaN
    assert str(stored_span({"attributes": [attribute]})) == str(expected)
