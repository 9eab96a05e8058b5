"""Summaries of large traces: without what nobody said, and compressed."""

import gzip
import json
from dataclasses import asdict
from typing import Any

import pytest
from starlette.testclient import TestClient

from collector.answers.trace_source import FoundTrace
from collector.api.traces import ROUTES
from collector.spans.conventions import ObservationKind
from collector.spans.facts import export_facts
from collector.spans.summary import summarise
from tests.collector.answers.test_trace_source import TRACE_ID, Finding
from tests.support.answers import own_app_with, traces_from
from tests.support.spans import payload, spanfacts

MANY = 300


def app_of(count: int) -> TestClient:
    spans = [spanfacts("a", usage=(5, 2))]
    spans += [spanfacts(f"s{number}", "a", ObservationKind.LLM) for number in range(1, count)]
    found = FoundTrace(trace_id=TRACE_ID, spans=spans)
    return TestClient(own_app_with(ROUTES, traces=traces_from(Finding(found))))


def with_empty(row: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """A row without what is empty, with what the whole one has there."""
    empty = {name: value for name, value in whole.items() if value in (None, False, [])}
    tokens = dict.fromkeys(whole["tokens"]) | row.get("tokens", {})
    return empty | row | {"tokens": tokens}


@pytest.mark.parametrize(
    "name", ["benchmark_trace", "pydantic_ai_v5_tool_retry", "pydantic_ai_v5_tool_error"]
)
def test_a_summary_says_everything_and_without_what_is_empty_the_same(name: str) -> None:
    summary = summarise(export_facts(payload(name)), trace_id=TRACE_ID)
    whole, told = json.loads(json.dumps(summary.to_json())), summary.to_json(omit_empty=True)
    assert whole == json.loads(json.dumps(asdict(summary)))
    pairs = zip(told["spans"], whole["spans"], strict=True)
    assert [with_empty(row, full) for row, full in pairs] == whole["spans"]
    assert len(json.dumps(told["spans"])) < len(json.dumps(whole["spans"])) / 2


def test_the_api_leaves_out_what_is_empty_where_it_is_asked_to() -> None:
    client = app_of(2)
    path = f"/-/traces/{TRACE_ID}"
    _, second = client.get(f"{path}?omit_empty=true").json()["spans"]
    assert "agent" not in second and "tokens" not in second and second["depth"] == 1
    _, second = client.get(f"{path}?omit_empty=false").json()["spans"]
    assert second["agent"] is None and second["tokens"]["input"] is None
    wrong = client.get(f"{path}?omit_empty=1")
    assert (wrong.status_code, wrong.json()["error"]["parameter"]) == (400, "omit_empty")


@pytest.mark.parametrize(
    ("count", "takes", "compressed"),
    [(MANY, "br, gzip", True), (MANY, "identity", False), (2, "gzip", False)],
    ids=["long", "unwanted", "short"],
)
def test_long_answers_are_compressed_where_the_client_takes_that(
    count: int, takes: str, compressed: bool
) -> None:
    headers = {"Accept-Encoding": takes}
    with app_of(count).stream("GET", f"/-/traces/{TRACE_ID}", headers=headers) as answer:
        body = b"".join(answer.iter_raw())
        assert ("Content-Encoding" in answer.headers, answer.headers["Vary"]) == (
            compressed,
            "Accept-Encoding",
        )
    document = json.loads(gzip.decompress(body) if compressed else body)
    assert len(document["spans"]) == count
