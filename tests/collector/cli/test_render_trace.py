"""A trace on a terminal."""

import io
import json
from typing import Any

from rich.console import Console

from collector.cli.render_trace import one_line, render_trace
from collector.spans.facts import export_facts
from collector.spans.summary_models import TraceSummary
from tests.support.spans import payload, spanfacts
from tests.support.summaries import LLM, summary_of

# ---- on a terminal


def rendered(summary: TraceSummary, **added: Any) -> str:
    out = io.StringIO()
    render_trace(json.loads(json.dumps(summary.to_json() | added)), Console(file=out, width=120))
    return out.getvalue()


def test_the_terminal_shows_header_tree_and_errors() -> None:
    found = summary_of(*export_facts(payload("pydantic_ai_v5_tool_retry")), experiment_id="1")
    lines = rendered(found).splitlines()
    assert lines[0] == one_line(found.to_json())
    assert lines[0] == (
        "invoke_agent weather  OK  13.3 ms  6 spans  3 model calls  2 tool calls  1 recovered retry"
        "  761→134 tokens  $0.0032  experiment 1"
    )
    assert lines[2].split() == ["chat", "gpt-4o", "1.63", "ms", "183→5", "tokens", "$0.0005"]
    assert "retried: pydantic_ai.exceptions.ToolRetryError: city service busy" in lines[3]


def test_the_terminal_obeys_nothing_that_a_span_says() -> None:
    evil = "\x1b]0;owned\x07[red]x[/red]\n\u202egnp.exe :smile:"
    shown = rendered(summary_of(spanfacts("a", name=evil, is_error=True, error_message=evil)))
    assert "�]0;owned�[red]x[/red]��gnp.exe :smile:" in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2


def test_the_terminal_says_what_may_be_missing() -> None:
    shown = rendered(
        summary_of(
            spanfacts("b", "gone", LLM, usage=(1, 1)),
            spanfacts("c", "gone"),
            max_spans=1,
            incomplete="MLflow could not be asked: no connection",
        )
    )
    for remark in (
        "1 span more",
        "root span has not arrived",
        "1 parent span missing",
        "1 model call without a known cost",
        "no connection",
    ):
        assert remark in shown


def test_the_terminal_says_where_the_content_of_an_archived_trace_is() -> None:
    place = {"archive": "/srv/archive", "file": "7/2026-01-31.otlp.zst", "spans": 1, "archived_unix_ns": 1}
    shown = rendered(summary_of(spanfacts("a")), archived=place)
    assert "7/2026-01-31.otlp.zst in /srv/archive" in shown
