"""Which requests change what MLflow says of traces, and of which."""

import json
from typing import Any

import pytest

from proxy.catalog import load_catalog
from proxy.written import changed_trace_ids, changes_traces

CATALOG = load_catalog()
TRACE = "tr-" + "ab" * 16
ASSESSMENTS = f"/3.0/mlflow/traces/{TRACE}/assessments"
STARTED = {"trace": {"trace_info": {"trace_id": TRACE, "assessments": [{"trace_id": TRACE}]}}}


@pytest.mark.parametrize("prefix", ["/api", "/ajax-api"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", ASSESSMENTS, {"assessment": {"trace_id": TRACE}}, id="adds_an_assessment"),
        pytest.param("PATCH", f"{ASSESSMENTS}/a-1", {"assessment": {}}, id="changes_an_assessment"),
        pytest.param("DELETE", f"{ASSESSMENTS}/a-1", None, id="deletes_an_assessment"),
        pytest.param(
            "PATCH", f"/3.0/mlflow/traces/{TRACE}/tags", {"key": "a", "value": "b"}, id="sets_a_tag"
        ),
        pytest.param("POST", "/3.0/mlflow/traces", STARTED, id="starts_a_trace_with_assessments"),
    ],
)
def test_what_changes_traces_names_them(prefix: str, method: str, path: str, body: Any) -> None:
    operation = CATALOG.classify(method, prefix + path)
    assert changes_traces(operation)
    said = None if body is None else json.dumps(body).encode()
    assert changed_trace_ids(operation, prefix + path, said) == (TRACE,)


def test_reading_changes_nothing() -> None:
    assert not changes_traces(CATALOG.classify("GET", f"/api{ASSESSMENTS}/a-1"))
