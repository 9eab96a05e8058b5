"""The table of tools: twelve that read, and one, apart, that writes."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from collector.answers.runs.models import RunDetail, RunPage
from collector.index.queries.models import (
    Compared,
    ErrorPage,
    Facets,
    Session,
    SessionPage,
    Stats,
    TracePage,
)
from collector.index.queries.stats import ENTITIES, SPREAD, TOKENS
from collector.mcp.asking import Ask, Json
from collector.mcp.envelope import ToolAnswer
from collector.mcp.feedback import record_feedback
from collector.mcp.inputs import (
    Compare,
    ExplainTrace,
    GetHealth,
    GetRun,
    GetSession,
    GetStatistics,
    GetTrace,
    ListErrors,
    ListFacets,
    ListRuns,
    ListSessions,
    RecordFeedback,
    SearchTraces,
    ToolInput,
)
from collector.mcp.lists import (
    compare,
    get_statistics,
    list_errors,
    list_facets,
    list_runs,
    list_sessions,
    search_traces,
)
from collector.mcp.schemas import input_schema, output_schema
from collector.mcp.shapes import Explanation, Feedback, Health, TraceWithContent
from collector.mcp.single import explain_trace, get_health, get_run, get_session, get_trace

Run = Callable[[Any, Ask, int], Awaitable[ToolAnswer]]
"""Answers a tool's input by asking the service, within a number of tokens. Raises AskRefused."""


@dataclass(frozen=True, kw_only=True)
class AgentTool:
    """A tool: `takes` is its input, `gives` the shape of `telemetry` in its answer."""

    name: str
    title: str
    description: str
    takes: type[ToolInput]
    gives: type
    example: Mapping[str, Any]
    run: Run
    writes: bool = False

    @cached_property
    def input_schema(self) -> Json:
        """JSON schema of the arguments."""
        return input_schema(self.takes)

    @cached_property
    def output_schema(self) -> Json:
        """JSON schema of the structured answer."""
        return output_schema(self.gives)


def _offered(what: str) -> str:
    """The metrics or dimensions, each once, behind the entities that have it."""
    having: dict[str, list[str]] = {}
    for entity in ENTITIES:
        for name in getattr(ENTITIES[entity], what):
            having.setdefault(name, []).append(entity)
    offered: dict[str, list[str]] = {}
    for name, entities in having.items():
        among = "all" if len(entities) == len(ENTITIES) else ", ".join(entities)
        offered.setdefault(among, []).append(name)
    return "; ".join(f"{among}: {_folded(names)}" for among, names in offered.items())


def _folded(names: Iterable[str]) -> str:
    """The names, where those that differ only in one part are one: duration_seconds_{mean,max,p50}."""
    alike: dict[tuple[str, str], list[str]] = {}
    for name in names:
        stem, _, last = name.rpartition("_")
        if stem and last in SPREAD:
            alike.setdefault((f"{stem}_", ""), []).append(last)
        elif stem in TOKENS and last == "tokens":
            alike.setdefault(("", "_tokens"), []).append(stem)
        else:
            alike[name, ""] = []
    return ", ".join(
        f"{before}{{{','.join(parts)}}}{after}" if parts else before
        for (before, after), parts in alike.items()
    )


TRACE_ID = "31d85ef3f0cbdd52ca0ab6ef81fdbb16"
READING = (
    AgentTool(
        name="search_traces",
        title="Search traces",
        description="List traces by filters, newest first: status, duration, tokens, cost, error. "
        "Texts may end in *; several values of a filter mean any of them.",
        takes=SearchTraces,
        gives=TracePage,
        example={"status": "ERROR", "since": "-24h", "limit": 10},
        run=search_traces,
    ),
    AgentTool(
        name="get_trace",
        title="Get one trace",
        description="The tree of a trace: spans with times and critical path, errors, models, tools, tokens "
        "and cost; with content = true also inputs, outputs and exceptions.",
        takes=GetTrace,
        gives=TraceWithContent,
        example={"trace_id": TRACE_ID, "spans": "failed", "content": True},
        run=get_trace,
    ),
    AgentTool(
        name="list_errors",
        title="List errors",
        description="Failed spans, grouped if their messages differ only in ids, numbers and names; with "
        "first and last time and an example trace. More filters: as search_traces.",
        takes=ListErrors,
        gives=ErrorPage,
        example={"since": "-7d", "agent": "weather"},
        run=list_errors,
    ),
    AgentTool(
        name="get_statistics",
        title="Compute statistics",
        description=f"Metrics in all, by group and over time. Metrics, behind each `of` that has them: "
        f"{_offered('metrics')}. Dimensions for `by`: {_offered('dimensions')}. "
        "More filters: as search_traces.",
        takes=GetStatistics,
        gives=Stats,
        example={"of": "models", "metric": ["count", "duration_seconds_p95"], "by": "model", "since": "-24h"},
        run=get_statistics,
    ),
    AgentTool(
        name="compare",
        title="Compare two selections",
        description="Two time ranges, versions or other selections side by side, with difference and ratio. "
        "Metrics and dimensions as in get_statistics.",
        takes=Compare,
        gives=Compared,
        example={"a": {"since": "-2d", "until": "-1d"}, "b": {"since": "-1d"}, "of": "tools", "by": "tool"},
        run=compare,
    ),
    AgentTool(
        name="list_sessions",
        title="List sessions",
        description="Conversations with turns, errors, tokens and cost, most recently active first. "
        "More filters: as search_traces.",
        takes=ListSessions,
        gives=SessionPage,
        example={"user": "ann", "since": "-7d"},
        run=list_sessions,
    ),
    AgentTool(
        name="get_session",
        title="Get one session",
        description="One conversation with its turns (traces), oldest first.",
        takes=GetSession,
        gives=Session,
        example={"session": "chat-17"},
        run=get_session,
    ),
    AgentTool(
        name="list_runs",
        title="List runs",
        description="MLflow runs of experiments with parameters and latest metrics. Needs MLflow.",
        takes=ListRuns,
        gives=RunPage,
        example={"experiment_name": "evaluation", "order_by": "metrics.accuracy DESC"},
        run=list_runs,
    ),
    AgentTool(
        name="get_run",
        title="Get one run",
        description="One MLflow run: parameters, tags, metrics with their histories, files, and totals of "
        "its traces. Needs MLflow.",
        takes=GetRun,
        gives=RunDetail,
        example={"run_id": "0a1b2c3d4e5f60718293a4b5c6d7e8f9", "metric": "loss", "whole_history": True},
        run=get_run,
    ),
    AgentTool(
        name="list_facets",
        title="List values to filter by",
        description="The values that filters can have: experiments, services, versions, agents, models, "
        "tools, names, users; most frequent first. More filters: as search_traces.",
        takes=ListFacets,
        gives=Facets,
        example={"since": "-7d"},
        run=list_facets,
    ),
    AgentTool(
        name="explain_trace",
        title="Explain a trace's facts",
        description="Which attribute each fact of a trace comes from, and what is changed for MLflow. For "
        "missing tokens, costs or names.",
        takes=ExplainTrace,
        gives=Explanation,
        example={"trace_id": TRACE_ID},
        run=explain_trace,
    ),
    AgentTool(
        name="get_health",
        title="Get health and alerts",
        description="Whether Sidespan takes data, the state of each part, and which alerts fire: values, "
        "since when, filters for search_traces, example traces.",
        takes=GetHealth,
        gives=Health,
        example={},
        run=get_health,
    ),
)
WRITING = AgentTool(
    name="record_feedback",
    title="Record feedback",
    description="Write a judgement of a trace or a span to MLflow, as an assessment. Each call adds one.",
    takes=RecordFeedback,
    gives=Feedback,
    example={"trace_id": TRACE_ID, "name": "correct", "value": False, "rationale": "wrong city"},
    run=record_feedback,
    writes=True,
)


def tools_of(*, feedback: bool) -> tuple[AgentTool, ...]:
    """The tools that are offered."""
    return (*READING, WRITING) if feedback else READING


def parse(tool: AgentTool, arguments: Mapping[str, Any] | None) -> BaseModel:
    """The arguments, checked. Raises pydantic's ValidationError."""
    return tool.takes.model_validate(dict(arguments or {}))
