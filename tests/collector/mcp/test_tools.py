"""The table of tools, and how each asks the service."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from collector.index.queries.stats import ENTITIES
from collector.mcp.asking import Ask, AskRefused, Question, Reply
from collector.mcp.bounds import tokens_of
from collector.mcp.inputs import GetTrace
from collector.mcp.server import ServedTools, server_of
from collector.mcp.tools import READING, WRITING, AgentTool, parse, tools_of

TRACE_ID = "31d85ef3f0cbdd52ca0ab6ef81fdbb16"
ALL = tools_of(feedback=True)


def answering(answers: Callable[[Question], Any], asked: list[Question] | None = None) -> Ask:
    async def ask(question: Question) -> Reply:
        if asked is not None:
            asked.append(question)
        found = answers(question)
        status, document = found if isinstance(found, tuple) else (200, found)
        return Reply(status=status, body=json.dumps(document).encode())

    return ask


def test_at_most_twelve_tools_read_and_the_one_that_writes_is_apart() -> None:
    assert len(READING) <= 12
    assert not any(tool.writes for tool in READING)
    assert tools_of(feedback=False) == READING
    assert [tool for tool in ALL if tool.writes] == [WRITING]


@pytest.mark.parametrize("tool", ALL, ids=lambda tool: tool.name)
def test_each_tool_has_valid_schemas_and_an_example_that_it_takes(tool: AgentTool) -> None:
    for schema in (tool.input_schema, tool.output_schema):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
    jsonschema.validate(dict(tool.example), tool.input_schema)
    parse(tool, tool.example)
    with pytest.raises(ValidationError):
        parse(tool, {**tool.example, "made_up": 1})


async def test_the_list_tells_readers_from_writers_and_is_bounded() -> None:
    async with Client(server_of(ServedTools(ask=answering(dict), max_tokens=5000, feedback=True))) as client:
        listed = (await client.list_tools()).tools
    assert {tool.name: tool.annotations.read_only_hint for tool in listed if tool.annotations} == {
        tool.name: not tool.writes for tool in ALL
    }
    assert all(tool.description and "Example: {" in tool.description for tool in listed)
    texts = [tool.model_dump(by_alias=True, exclude_none=True) for tool in listed]
    assert tokens_of(texts) < 12_000


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("list_errors", {"prompt": "3"}),
        ("get_statistics", {"prompt": ["3"], "of": "scores", "judge": "HUMAN", "metric": "pass_rate"}),
        ("list_sessions", {"tag": "canary"}),
        ("list_facets", {"min_cost_usd": "1"}),
        ("compare", {"a": {"label": "good"}, "b": {"label": "bad"}, "of": "scores", "by": ["source"]}),
    ],
)
def test_filters_that_a_schema_does_not_name_are_taken_by_it_and_by_the_tool(
    name: str, given: dict[str, Any]
) -> None:
    tool = next(each for each in ALL if each.name == name)
    jsonschema.validate(given, tool.input_schema)
    parse(tool, given)


@pytest.mark.parametrize("name", ["get_statistics", "compare"])
def test_statistics_know_every_entity_with_all_that_it_has(name: str) -> None:
    tool = next(each for each in ALL if each.name == name)
    assert tool.input_schema["properties"]["of"]["enum"] == list(ENTITIES)
    said = next(each for each in ALL if each.name == "get_statistics").description
    for of, entity in ENTITIES.items():
        filters = dict.fromkeys(entity.filters, "1")
        parse(tool, {"of": of} | ({"a": filters, "b": filters} if name == "compare" else filters))
        for offered in (entity.metrics, entity.dimensions):
            assert all(each in said or each.rpartition("_")[0] in said for each in offered)
    with pytest.raises(ValidationError, match="scores"):
        parse(tool, {**tool.example, "of": "made_up"})


async def run(name: str, ask: Ask, max_tokens: int = 5000, **arguments: Any) -> Any:
    tool = next(each for each in ALL if each.name == name)
    return await tool.run(parse(tool, arguments), ask, max_tokens)


async def test_filters_reach_the_path_as_they_were_given() -> None:
    asked: list[Question] = []
    ask = answering(lambda _: {"traces": [], "next_cursor": None}, asked)
    await run("search_traces", ask, status="ERROR", agent=["a", "b*"], since="-1h")
    assert asked[0].path == "/-/traces"
    assert dict(asked[0].query) == {
        "status": ["ERROR"], "agent": ["a", "b*"], "since": ["-1h"], "limit": ["20"],
    }  # fmt: skip


async def test_sides_of_a_comparison_have_their_prefix() -> None:
    asked: list[Question] = []
    ask = answering(lambda _: {"groups": [], "total": {}}, asked)
    a, b = {"version": "1"}, {"version": ["2", "3"]}
    await run("compare", ask, a=a, b=b, both={"service": "s"}, metric="count", by=["tool"], of="tools")
    assert dict(asked[0].query) == {
        "of": ["tools"], "metric": ["count"], "by": ["tool"], "service": ["s"],
        "a.version": ["1"], "b.version": ["2", "3"], "top": ["11"],
    }  # fmt: skip


async def test_a_page_that_is_too_large_ends_where_its_cursor_begins() -> None:
    rows = [{"trace_id": f"{number:032x}", "name": "n" * 300} for number in range(500)]

    def page(question: Question) -> Any:
        first = int(question.query.get("cursor", ["0"])[0])
        end = first + int(question.query["limit"][0])
        return {"traces": rows[first:end], "next_cursor": str(end) if end < len(rows) else None}

    seen: list[str] = []
    cursor: str | None = None
    while True:
        given = {"cursor": cursor} if cursor else {}
        answer = await run("search_traces", answering(page), limit=100, **given)
        seen += [row["trace_id"] for row in answer.telemetry["traces"]]
        cursor = answer.telemetry.get("next_cursor")
        if cursor is None:
            break
        assert "cursor = telemetry.next_cursor" in answer.omitted[-1].how
    assert seen == [row["trace_id"] for row in rows]


@pytest.mark.parametrize(
    ("name", "path", "given"),
    [
        ("list_errors", "errors", {"limit": 60}),
        ("get_statistics", "groups", {"top": 60}),
        ("compare", "groups", {"top": 60, "a": {}, "b": {}}),
        ("get_session", "turns", {"session": "s"}),
        ("explain_trace", "spans", {"trace_id": TRACE_ID}),
        ("get_trace", "spans", {"trace_id": TRACE_ID}),
    ],
)
async def test_the_rest_of_a_list_is_reached_with_skip(name: str, path: str, given: dict[str, Any]) -> None:
    rows = [{"id": number, "text": "t" * 300, "span_id": f"{number}"} for number in range(60)]
    extra = {"spans_omitted": 0, "errors_omitted": 0, "turns_omitted": 0}

    def whole(question: Question) -> Any:
        most = int(question.query.get("limit", question.query.get("top", ["60"]))[0])
        return {path: list(rows[:most]), **extra}

    seen: list[int] = []
    while True:
        answer = await run(name, answering(whole), **given, skip=len(seen))
        found = [row["id"] for row in answer.telemetry[path]]
        assert found
        seen += found
        if not answer.omitted:
            break
        assert f"skip = {len(seen)}" in answer.omitted[-1].how
    assert seen == list(range(60))


@pytest.mark.parametrize(
    ("name", "path", "given", "size"),
    [
        ("list_errors", "errors", {}, "limit"),
        ("get_statistics", "groups", {}, "top"),
        ("compare", "groups", {"a": {}, "b": {}}, "top"),
    ],
)
async def test_rows_that_the_service_does_not_list_are_said(
    name: str, path: str, given: dict[str, Any], size: str
) -> None:
    rows = [{"id": number, "message": "m" * (700 if number == 0 else 1)} for number in range(1500)]

    def whole(question: Question) -> Any:
        most = int(question.query[size][0])
        assert most <= 1000
        return {path: rows[:most], "more_groups": most < len(rows)}

    seen, skip = [], 0
    while True:
        answer = await run(name, answering(whole), max_tokens=50_000, **given, skip=skip, **{size: 150})
        seen += [row["id"] for row in answer.telemetry[path]]
        if "more filters" in answer.omitted[-1].how:
            break
        skip += 150
        assert answer.omitted[-1].how.startswith(f"the same tool and arguments, with skip = {skip}")
    assert seen == list(range(1000))
    assert answer.omitted[-1].what == f"{path} after the first 1000, if there are any"


async def test_an_argument_that_is_no_text_is_an_error_of_the_tool() -> None:
    async def ask(question: Question) -> Reply:
        return Reply(status=200, body=question.query_string.encode())

    async with Client(server_of(ServedTools(ask=ask, max_tokens=5000, feedback=False))) as client:
        result = await client.call_tool("search_traces", {"agent": "a\ud800"})
    assert result.is_error
    assert "no character" in str(result.content)


async def test_a_whole_history_is_read_piece_by_piece() -> None:
    points = [{"step": step, "value": step / 3, "unix_ns": 10**18 + step} for step in range(2000)]

    def run_of(question: Question) -> Any:
        assert question.query["history"] == ["all"]
        return {"run_id": "r", "metrics": [{"key": "loss", "history": list(points)}], "params": {}}

    seen: list[Any] = []
    while len(seen) < len(points):
        answer = await run(
            "get_run", answering(run_of), run_id="r", metric="loss", whole_history=True, skip=len(seen)
        )
        seen += answer.telemetry["metrics"][0]["history"]
        if len(seen) < len(points):
            assert f"skip = {len(seen)}" in answer.omitted[-1].how
    assert seen == points


@pytest.mark.parametrize(
    ("spans", "ids"),
    [("failed", ["2"]), ("critical_path", ["1", "2"]), ("none", []), ("all", ["1", "2", "3"])],
)
async def test_the_spans_of_a_trace_can_be_chosen(spans: str, ids: list[str]) -> None:
    rows = [
        {"span_id": id, "is_error": id == "2", "critical_seconds": 0.1 if id != "3" else 0} for id in "123"
    ]
    ask = answering(lambda _: {"spans": list(rows), "spans_omitted": 0, "errors_omitted": 0})
    answer = await run("get_trace", ask, trace_id=TRACE_ID, spans=spans)
    assert [row["span_id"] for row in answer.telemetry["spans"]] == ids


async def test_what_a_trace_has_beyond_the_answer_is_counted() -> None:
    rows = [{"span_id": f"{n:016x}", "is_error": False, "critical_seconds": 0} for n in range(400)]
    summary = {"spans": rows, "spans_omitted": 600, "errors_omitted": 3}
    contents = {"spans": [{"span_id": rows[0]["span_id"], "input": {"text": "x", "characters": 1}}]}
    ask = answering(lambda question: dict(contents if "content" in question.path else summary))
    answer = await run("get_trace", ask, max_tokens=20_000, trace_id=TRACE_ID, content=True)
    shown = len(answer.telemetry["spans"])
    said = {each.what: each.how for each in answer.omitted}
    assert f"skip = {shown}" in said[f"{1000 - shown} of spans"]
    assert "up to 40 span_ids" in said["content of 360 of the spans"]
    assert "failed" in said["3 of errors"]


async def test_spans_that_cannot_be_listed_are_said() -> None:
    def summary(question: Question) -> Any:
        assert int(question.query["max_spans"][0]) <= 30_000
        return {"spans": [], "spans_omitted": 5, "errors_omitted": 0}

    for given in ({"skip": 29_900}, {"spans": "failed"}):
        answer = await run("get_trace", answering(summary), trace_id=TRACE_ID, **given)
        assert [each.what for each in answer.omitted] == ["5 spans after the first 30000"]


async def test_a_run_with_a_metric_that_is_not_a_number_keeps_to_its_schema() -> None:
    metric = {"key": "loss", "last": "NaN", "minimum": None, "history": [{"step": 1, "value": "Infinity"}]}
    ask = answering(lambda _: {"run_id": "r", "metrics": [metric], "params": {}})
    async with Client(server_of(ServedTools(ask=ask, max_tokens=5000, feedback=False))) as client:
        result = await client.call_tool("get_run", {"run_id": "r"})
    assert not result.is_error
    jsonschema.validate(result.structured_content, next(t for t in ALL if t.name == "get_run").output_schema)


async def test_each_call_is_counted_by_tool_and_outcome() -> None:
    counted: list[tuple[str, str]] = []
    statuses = iter((200, 403, 503))

    async def ask(_: Question) -> Reply:
        return Reply(status=next(statuses), body=b'{"traces": []}')

    served = ServedTools(ask=ask, max_tokens=5000, feedback=False, count=lambda *each: counted.append(each))
    async with Client(server_of(served)) as client:
        for _ in range(3):
            await client.call_tool("search_traces", {})
        await client.call_tool("search_traces", {"limit": 0})
        with pytest.raises(MCPError):
            await client.call_tool("made_up", {})
    assert counted == [
        ("search_traces", "answered"),
        ("search_traces", "refused"),
        ("search_traces", "failed"),
        ("search_traces", "invalid"),
        ("unknown", "invalid"),
    ]


async def test_an_unready_service_is_an_answer_not_an_error() -> None:
    health = {"ready": False, "version": "1", "parts": {"journal": {"ok": False, "reason": "full"}}}
    alerts: dict[str, Any] = {"alerts": []}
    answer = await run(
        "get_health", answering(lambda asked: alerts if "alerts" in asked.path else (503, health))
    )
    assert answer.telemetry == health | alerts
    assert not answer.omitted


async def test_alerts_that_fire_come_first_with_the_groups_that_make_them_fire() -> None:
    def page(question: Question) -> Any:
        if question.path == "/-/ready":
            return {"ready": True, "version": "1", "parts": {}}
        common = {"summary": "s", "trouble": None, "asleep_until_unix_ns": None, "evaluated_unix_ns": 5}
        fine = {"group": {"tool": "a"}, "status": "ok", "value": 0.0}
        bad = {"group": {"tool": "b"}, "status": "firing", "value": 0.4, "since_unix_ns": 3}
        more = {"more_groups": False, "definition": {}, "threshold": {}, "channels": []}
        return {
            "alerts": [
                {"name": "quiet", "status": "ok", "groups": [fine]} | common | more,
                {"name": "loud", "status": "firing", "groups": [fine, bad]} | common | more,
            ]
        }

    alerts = (await run("get_health", answering(page))).telemetry["alerts"]
    assert [(each["name"], each["groups"]) for each in alerts] == [
        ("loud", [{"group": {"tool": "b"}, "status": "firing", "value": 0.4, "since_unix_ns": 3}]),
        ("quiet", []),
    ]


async def test_who_may_not_see_alerts_is_told_so_with_the_health() -> None:
    health = {"ready": True, "version": "1", "parts": {}}
    refusal = (403, {"error": {"message": "no"}})
    answer = await run("get_health", answering(lambda asked: refusal if "alerts" in asked.path else health))
    assert answer.telemetry == health
    assert [(each.what, each.how) for each in answer.omitted] == [
        ("alerts", "a token with the right alerts:read, not limited to experiments")
    ]


async def test_a_refusal_says_what_the_service_said() -> None:
    error = {"error": {"parameter": "sort", "value": "x", "message": "must be one of …"}}
    with pytest.raises(AskRefused, match="must be one of") as refused:
        await run("search_traces", answering(lambda _: (400, error)))
    assert (refused.value.status, refused.value.document["parameter"]) == (400, "sort")


@pytest.mark.parametrize(
    "id", ["", "../../replay", "zz", f"{TRACE_ID}/content", f"{TRACE_ID}?x=1", f"{TRACE_ID}\n"]
)
def test_no_path_is_made_of_what_is_no_trace_id(id: str) -> None:
    with pytest.raises(ValidationError):
        GetTrace(trace_id=id)
