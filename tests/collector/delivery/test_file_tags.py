"""Attributes that say where MLflow's files lie are taken off, and nothing else is touched."""

import pytest

from collector.delivery.mlflow.file_tags import ATTRIBUTES, without_file_tags
from collector.delivery.mlflow.forward import forwarder
from collector.settings import HarmoniseSettings
from tests.support.otlp import all_spans, export


def test_what_has_none_is_the_same_object() -> None:
    payload = export(spans=3).SerializeToString()
    assert without_file_tags(payload) == (payload, 0)
    assert without_file_tags(payload)[0] is payload


@pytest.mark.parametrize("name", sorted(ATTRIBUTES))
def test_each_of_them_is_taken_off_and_the_rest_stays(name: str) -> None:
    otlp = export(spans=3)
    spans = all_spans(otlp)
    spans[1].attributes.add(key=name).value.string_value = "mlflow-artifacts:/2/x"
    spans[1].attributes.add(key="mlflow.traceTag.mlflow.note").value.string_value = name
    body, count = without_file_tags(otlp.SerializeToString())
    assert count == 1
    found = all_spans(type(otlp).FromString(body))
    assert name not in {pair.key for span in found for pair in span.attributes}
    assert found[1].attributes[-1].value.string_value == name, "a value that speaks of it is content"
    assert len(found[1].attributes) == len(spans[1].attributes) - 1


def test_it_is_counted_where_spans_are_harmonised() -> None:
    otlp = export(spans=1)
    all_spans(otlp)[0].attributes.add(key=sorted(ATTRIBUTES)[0]).value.string_value = "x"
    forward = forwarder(HarmoniseSettings())
    assert forward is not None
    done = forward(otlp.SerializeToString(), {}, {})
    assert done.counts["file_tags", "removed"] == 1
    assert b"artifactLocation" not in done.body
