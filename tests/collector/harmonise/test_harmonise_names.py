"""What MLflow is told of a whole trace: its name, tags, session and user, as its summary says."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.harmonise.apply import harmonise
from collector.harmonise.mlflow_limits import capped
from collector.harmonise.parts import Part
from collector.spans.facts import export_facts
from collector.spans.labels import tag_name
from collector.spans.summary import summarise
from collector.spans.summary_models import TraceStatus
from tests.support.harmonised import (
    AGENT,
    ALL,
    CHAT,
    MESSAGES,
    NAME,
    REMOTE,
    WEB,
    as_mlflow_takes_it,
    attributes_of,
    given_to,
    in_requests,
    one,
    request,
    span,
)
from tests.support.otlp import all_spans
from tests.support.spans import START, TRACE_ID


def test_a_trace_is_named_after_its_root() -> None:
    assert one({}, frozenset({Part.NAMES})) == {NAME: "span 1"}


def test_a_web_servers_trace_is_named_after_its_first_agent_and_shows_its_content() -> None:
    served = {**AGENT, "input.value": "Hello?", "output.value": "Hi."}
    chat, agent, root = given_to(span(3, 2, CHAT), span(2, 1, served), span(1, None, WEB))
    assert root[NAME] == "span 2"
    assert (root["mlflow.spanInputs"], root["mlflow.spanOutputs"]) == ("Hello?", "Hi.")
    assert NAME not in agent
    assert NAME not in chat


def test_messages_are_shown_on_a_web_servers_root_as_their_last_text() -> None:
    answer = '[{"role": "assistant", "content": "Hi."}]'
    _, root = given_to(
        span(2, 1, {**CHAT, "gen_ai.input.messages": MESSAGES, "gen_ai.output.messages": answer}),
        span(1, None, WEB),
    )
    assert (root["mlflow.spanInputs"], root["mlflow.spanOutputs"]) == ("Hello?", "Hi.")


def test_a_name_that_the_client_has_given_counts() -> None:
    assert NAME not in one({NAME: "ours"})
    assert one({"langfuse.trace.name": "ours"})[NAME] == "ours"


def test_tags_are_those_of_the_root_and_what_mlflow_does_not_take_from_the_resource() -> None:
    resource = {"service.name": "shop", "deployment.environment": "test"}
    attributes = {"tag.tags": ["beta"], "metadata": '{"plan": "gold", "mlflow.user": "x", "a$b": "c"}'}
    (found,) = given_to(span(1, None, attributes), parts=frozenset({Part.TAGS}), resource=resource)
    assert found == {
        "mlflow.traceTag.beta": "true",
        "mlflow.traceTag.plan": "gold",
        "mlflow.traceTag.a_b": "c",
        "mlflow.traceTag.deployment.environment.name": "test",
    }


def test_a_root_without_tags_gets_those_that_all_tagged_spans_share() -> None:
    tagged = [span(n, 1, {"metadata": json.dumps({"plan": "gold", "step": n})}) for n in (2, 3)]
    *_, root = given_to(*tagged, span(1, None, {}), parts=frozenset({Part.TAGS}))
    assert root == {"mlflow.traceTag.plan": "gold"}


SESSIONS: dict[str, tuple[Sequence[tuple[int | None, dict[str, Any]]], list[str | None]]] = {
    "the_run_stands_for_the_session_where_there_is_none": (
        [(1, {"gen_ai.conversation.id": "run"}), (None, {"gen_ai.conversation.id": "run"})],
        [None, None],
    ),
    "the_roots_session_comes_before_a_childs_run": (
        [(1, {"gen_ai.conversation.id": "run"}), (None, {"session.id": "s"})],
        ["s", None],
    ),
    "openinferences_copy_of_the_run_gives_way": (
        [(1, {"gen_ai.conversation.id": "run", "session.id": "run"}), (None, {"langfuse.session.id": "s"})],
        ["s", None],
    ),
    "a_name_that_mlflow_does_not_read": ([(1, {}), (None, {"langfuse.session.id": "s"})], [None, "s"]),
    "nothing": ([(1, {}), (None, {})], [None, None]),
}


@pytest.mark.parametrize(("spans", "sessions"), SESSIONS.values(), ids=SESSIONS.keys())
def test_mlflow_is_shown_the_traces_session_first(
    spans: Sequence[tuple[int | None, dict[str, Any]]], sessions: list[str | None]
) -> None:
    made = [span(len(spans) - at, parent, attributes) for at, (parent, attributes) in enumerate(spans)]
    found = given_to(*made, parts=frozenset({Part.SESSIONS}))
    assert [each.get("session.id") for each in found] == sessions


def test_a_childs_own_session_comes_after_the_roots() -> None:
    export = request(span(2, 1, {"session.id": "sub"}), span(1, None, {"session.id": "main"}))
    harmonise(export, parts=ALL, notes={})
    assert [attributes_of(each)["session.id"] for each in all_spans(export)] == ["main", "sub"]


def test_a_run_does_not_take_the_place_of_the_session_that_is_still_to_come() -> None:
    (found,) = given_to(span(2, 1, {"gen_ai.conversation.id": "run"}), parts=frozenset({Part.SESSIONS}))
    assert found == {"session.id": ""}


@pytest.mark.parametrize("flags", [0, REMOTE], ids=["sender_does_not_tell", "root_is_elsewhere"])
def test_a_run_is_the_session_where_no_root_can_be_waited_for(flags: int) -> None:
    child = span(2, 1, {"gen_ai.conversation.id": "run"}, flags=flags)
    assert given_to(child, parts=frozenset({Part.SESSIONS})) == [{}]


def test_a_user_gets_the_name_that_mlflow_reads() -> None:
    assert one({"enduser.id": "ann"}, frozenset({Part.SESSIONS})) == {"user.id": "ann"}


CAPS = {
    "session": ({"session.id": "s" * 251}, "session.id"),
    "run_that_stands_for_the_session": ({"gen_ai.conversation.id": "s" * 251}, "session.id"),
    "name": ({NAME: "n" * 4097}, NAME),
}


@pytest.mark.parametrize(("attributes", "key"), CAPS.values(), ids=CAPS.keys())
def test_what_mlflow_would_refuse_the_request_for_is_cut(attributes: dict[str, Any], key: str) -> None:
    assert len(one(attributes)[key]) == 250
    assert len(one(attributes, frozenset({Part.CAPS}))[key]) == 250


UNREADABLE = {
    "usage_with_words": ("mlflow.chat.tokenUsage", '{"input_tokens": "many"}', ""),
    "cost_that_is_no_object": ("mlflow.llm.cost", "3", "{}"),
    "cost_with_words": ("mlflow.llm.cost", '{"total_cost": "much"}', "{}"),
}


@pytest.mark.parametrize(("key", "value", "safe"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_numbers_that_mlflow_would_fail_at_are_replaced(key: str, value: str, safe: str) -> None:
    assert one({key: value}, frozenset({Part.CAPS})) == {key: safe}


def test_cut_texts_stay_different() -> None:
    assert capped("x" * 400 + "a") != capped("x" * 400 + "b")
    assert capped("short") == "short"
    assert tag_name("a b/c:d.e-f_ü€") == "a b/c:d.e-f_ü_"


# the same answer everywhere: what MLflow takes beside what the summary says

WORKFLOW = {"gen_ai.operation.name": "invoke_workflow"}
SAME_NAME = {
    "a_workflow_below_a_web_server": [
        span(1, None, WEB),
        span(2, 1, WORKFLOW),
        span(3, 2, AGENT),
        span(4, 3, CHAT),
    ],
    "an_agent_and_a_call_that_begin_together": [
        span(1, None, WEB),
        span(3, 1, CHAT, start_time_unix_nano=START + 2_000_000),
        span(2, 1, AGENT),
    ],
    "a_name_that_only_a_child_gives": [
        span(1, None, {}),
        span(2, 1, {"langfuse.trace.name": "nightly"}),
        span(3, 1, CHAT),
    ],
    "two_roots": [span(1, None, AGENT), span(2, None, AGENT), span(3, 2, CHAT)],
}


@pytest.mark.parametrize("spans", SAME_NAME.values(), ids=SAME_NAME)
def test_the_trace_has_one_name_in_mlflow_and_in_its_summary(spans: Sequence[Span]) -> None:
    summary = summarise(export_facts(request(*spans)), trace_id=TRACE_ID)
    for pieces in ([spans], [list(reversed(spans))], [[each] for each in reversed(spans)]):
        sent, _ = in_requests(pieces)
        assert as_mlflow_takes_it(sent)["name"] == summary.name


def test_of_two_roots_mlflow_sees_the_one_that_failed_first() -> None:
    """It takes the state of a trace from the first root of a request."""
    failed = span(2, None, AGENT)
    failed.status.code = Status.STATUS_CODE_ERROR
    for spans in ([span(1, None, AGENT), failed], [span(3, 1, CHAT), span(1, None, AGENT), failed]):
        (sent,), _ = in_requests([spans])
        roots = [each for each in all_spans(sent) if not each.parent_span_id]
        assert roots[0].span_id == failed.span_id
        assert summarise(export_facts(request(*spans)), trace_id=TRACE_ID).status is TraceStatus.ERROR


def test_a_session_behind_a_remote_child_is_the_summarys_alone() -> None:
    """docs/harmonise.md says so: nobody knows whether a root in another process will ever come by here."""
    child = span(2, 1, {**AGENT, "gen_ai.conversation.id": "run"}, flags=REMOTE)
    root = span(1, None, {"session.id": "s"})
    sent, _ = in_requests([[child], [root]])
    assert as_mlflow_takes_it(sent)["session"] == "run"
    assert summarise(export_facts(request(child, root)), trace_id=TRACE_ID).session == "s"


def test_the_run_below_a_root_without_a_session_is_the_session_however_the_trace_is_split() -> None:
    spans = [span(3, 2, CHAT), span(2, 1, {**AGENT, "gen_ai.conversation.id": "run"}), span(1, None, {})]
    for pieces in ([spans], [[each] for each in spans], [[each] for each in reversed(spans)]):
        sent, _ = in_requests(pieces)
        assert as_mlflow_takes_it(sent)["session"] == "run"


def test_a_web_servers_root_is_named_after_the_agent_that_runs_and_not_after_its_making() -> None:
    create = span(2, 1, {"gen_ai.operation.name": "create_agent"}, name="create_agent weather")
    invoke = span(3, 1, AGENT, name="invoke_agent weather")
    for spans in ([create, invoke, span(1, None, WEB)], [invoke, create, span(1, None, WEB)]):
        assert given_to(*spans)[-1][NAME] == "invoke_agent weather"
