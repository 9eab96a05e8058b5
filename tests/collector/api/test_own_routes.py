"""The table of our own routes: a path that is routed is judged by the policy and documented, and no other."""

import json
import re

import pytest
from starlette.routing import Match

from collector.api.app import starlette_routes
from collector.api.own_route import OwnRoute
from collector.api.own_routes import (
    FROM_INDEX,
    OWN_OPERATIONS,
    OWN_ROUTES,
    PUBLIC_PATHS,
    is_own,
    own_document,
)
from collector.api.query_parameters import FILTERS
from collector.api.receiver_admission import EXPORT
from collector.index.queries.filters import SCORE_FILTERS, SPAN_FILTERS, TRACE_FILTERS
from proxy.catalog import UNKNOWN
from proxy.presets import RESOURCES
from tests.support.answers import answers_with

ROUTES = starlette_routes(answers_with())
CONVERTOR = re.compile(r":(int|path)}")


def routed() -> set[tuple[str, str]]:
    """What Starlette routes, by method and path as OpenAPI writes it."""
    return {
        (method, CONVERTOR.sub("}", route.path))
        for route in ROUTES
        for method in route.methods or ()
        if method != "HEAD"
    }


def judged() -> set[tuple[str, str]]:
    """What the policy knows an operation of."""
    exact = set(OWN_OPERATIONS.exact)
    patterns = {
        (method, operation.route) for method, rows in OWN_OPERATIONS.patterns.items() for _, operation in rows
    }
    return {(method, CONVERTOR.sub("}", path)) for method, path in exact | patterns}


def documented() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in own_document()["paths"].items() for method in methods}


def test_every_route_is_judged_by_the_policy_and_documented() -> None:
    assert len(routed()) == len(OWN_ROUTES)
    assert routed() == judged() == documented()


def example_of(row: OwnRoute) -> str:
    return re.sub(r"\{\w+(:\w+)?\}", "1", row.path)


@pytest.mark.parametrize("row", OWN_ROUTES, ids=lambda row: f"{row.method} {row.path}")
def test_starlette_and_the_policy_take_a_request_for_the_same_row(row: OwnRoute) -> None:
    path = example_of(row)
    scope = {"type": "http", "method": row.method, "path": path}
    first = next(route for route in ROUTES if route.matches(scope)[0] is Match.FULL)
    assert first.path == row.path
    assert OWN_OPERATIONS.classify(row.method, path) == row.operation


def test_each_operation_is_of_a_resource_that_policies_can_name() -> None:
    assert {row.operation.resource for row in OWN_ROUTES} | {EXPORT.resource} <= set(RESOURCES)


def test_only_probes_need_no_credentials() -> None:
    assert PUBLIC_PATHS == {"/-/healthy", "/-/ready"}


def test_the_index_answers_reads_of_traces_only() -> None:
    rows = [row for row in OWN_ROUTES if row.operation.row in FROM_INDEX]
    assert {row.permission for row in rows} == {"traces:read"}
    assert {row.reach for row in rows} == {"-"}, "rights come with the request, as a list of experiments"


@pytest.mark.parametrize(
    ("method", "path", "ours"),
    [
        ("GET", "/-/made-up", True),
        ("POST", "/mlflow/runs", True),
        ("GET", "/mlflow/runs", False),
        ("GET", "/health", False),
        ("GET", "/-", False),
        ("GET", "/api/2.0/mlflow/runs/get", False),
    ],
)
def test_our_paths_are_told_from_mlflows(method: str, path: str, ours: bool) -> None:
    assert is_own(method, path) is ours


def test_the_wrong_method_and_an_unknown_path_are_no_operation() -> None:
    assert OWN_OPERATIONS.classify("GET", "/-/replay") is UNKNOWN
    assert OWN_OPERATIONS.classify("POST", "/-/made-up") is UNKNOWN


def test_path_parameters_are_documented() -> None:
    for row in OWN_ROUTES:
        described = {parameter.name for parameter in row.parameters if parameter.place == "path"}
        assert described == set(re.findall(r"\{(\w+)", row.path)), row.path
        assert all(parameter.required for parameter in row.parameters if parameter.place == "path")


def test_the_filters_in_the_document_are_those_that_the_index_reads() -> None:
    assert set(FILTERS) == {*TRACE_FILTERS, *SPAN_FILTERS, *SCORE_FILTERS}


def test_the_document_describes_each_shape_that_it_names() -> None:
    document = own_document()
    assert document["openapi"].startswith("3.1")
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    assert "minimum" in text, "descriptions come from the shapes' docstrings"


def test_each_summary_is_a_sentence_of_its_own() -> None:
    summaries = [row.summary for row in OWN_ROUTES]
    assert len(set(summaries)) == len(summaries)
    assert all(summary[0].isupper() and not summary.endswith(".") for summary in summaries)
