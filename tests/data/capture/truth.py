"""What the scenario of a capture did: truth.toml, and what the provider recorded. Pure but for reading.

    title = "OpenAI Agents SDK, OpenInference"

    [gaps]                          # cell -> why its place in the table is empty, for all traces
    user = "the sender does not tell"
    [pending]                       # cell -> what Sidespan still gets wrong; fails as soon as it is right
    types = "rerank is a reranker"
    [limits]                        # cell -> what MLflow gets wrong whatever Sidespan does; checked likewise
    cost = "MLflow keeps the cost of the first request"

    [[traces]]
    asks = "Paris"                  # whose calls are this trace's: provider/script.py's subject
    name = "Agent workflow"
    types = {AGENT = 2, LLM = 2, TOOL = 1}
    tools = {weather = 1}
    agent = "weather_agent"
    session = "capture-session"
    user = "capture-user"
    errors = 1                      # spans that failed; left out: 0
    embeds = true                   # the question was embedded, so there is no answer; also: response = ""
    elsewhere = ["decider"]         # models that were called without the provider
    [traces.gaps]                   # of this trace only; `is` where the sender tells something else
    cost = {why = "the sender counts no tokens of a stream", is = 0.1}

A gap's cell must be empty, or what `is` says; every other cell must be the truth. Tokens, cost, model calls,
truncated answers, the question and the answer are known from the provider.
"""

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.data.capture.environments import FRAMEWORKS
from tests.data.capture.files import CALLS, TRUTH

# US dollars for a million tokens: input, from the cache, to the cache, output; by the answering model
PRICES: Mapping[str, tuple[float, float, float, float]] = {
    "gpt-4o-mini": (0.15, 0.075, 0.15, 0.6),
    "gpt-4o-mini-2024-07-18": (0.15, 0.075, 0.15, 0.6),
    "gpt-4o": (2.5, 1.25, 2.5, 10.0),
    "gpt-4o-2024-08-06": (2.5, 1.25, 2.5, 10.0),
    "claude-sonnet-4-5-20250929": (3.0, 0.3, 3.75, 15.0),
    "gemini-2.5-flash": (0.3, 0.03, 0.3, 2.5),
    "text-embedding-3-small": (0.02, 0.02, 0.02, 0.0),
    "gemini-embedding-001": (0.15, 0.15, 0.15, 0.0),
}
TOKENS = ("input", "output", "cached", "cache_write", "reasoning")
# cells of one trace, and those of a capture as a whole, in the order of the table
TRACE_CELLS = (
    "name",
    "status",
    "model_calls",
    "tool_calls",
    "tools",
    "models",
    "answering",
    *TOKENS,
    "cost",
    "errors",
    "truncated",
    "agent",
    "session",
    "user",
    "request",
    "response",
)
CAPTURE_CELLS = ("types", "model_cost")
NUMBERS = frozenset({"model_calls", "tool_calls", "cost", "errors", "truncated", *TOKENS})
COUNTS = frozenset({"types", "tools", "models", "answering"})
CELLS = (*TRACE_CELLS, *CAPTURE_CELLS)
MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A cell that isn't the truth, and why; `told` is what the sender makes of it."""

    why: str
    told: Any = None


@dataclass(frozen=True, kw_only=True)
class TraceTruth:
    """One trace. `cells` is the truth, `gaps` what a sender doesn't tell of it."""

    asks: str
    cells: Mapping[str, Any]
    gaps: Mapping[str, Gap] = field(default_factory=dict)

    def expected(self, cell: str) -> Any:
        return self.gaps[cell].told if cell in self.gaps else self.cells[cell]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """One capture; `whole` has the sums over its traces.

    By cell, and why: `pending` is what Sidespan gets wrong so far, `limits` what MLflow gets wrong.
    """

    name: str
    title: str
    versions: Mapping[str, str]
    traces: Sequence[TraceTruth]
    whole: TraceTruth
    pending: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)

    @property
    def wrong(self) -> frozenset[str]:
        """Cells that need not be right, and are not."""
        return frozenset({*self.pending, *self.limits})


@lru_cache
def truth(folder: Path) -> Truth:
    """What is written beside a capture. Raises KeyError or ValueError where that isn't whole."""
    written = tomllib.loads((folder / TRUTH).read_text())
    recorded = json.loads((folder / CALLS).read_text())
    gaps = _gaps(written.get("gaps", {}))
    traces = [_trace(each, recorded["calls"], gaps) for each in written["traces"]]
    return Truth(
        name=folder.name,
        title=written["title"],
        versions=recorded["versions"],
        traces=traces,
        whole=_whole(traces, gaps),
        pending={
            cell: why
            for each in (written, *written["traces"])
            for cell, why in each.get("pending", {}).items()
        },
        limits=written.get("limits", {}),
    )


def truths() -> list[Truth]:
    """Of every capture that has one, by title."""
    found = [truth(path.parent) for path in FRAMEWORKS.glob(f"*/{TRUTH}")]
    return sorted(found, key=lambda each: each.title.lower())


def _gaps(written: Mapping[str, Any]) -> Mapping[str, Gap]:
    if unknown := written.keys() - set(CELLS):
        raise ValueError(f"no such cells: {sorted(unknown)}; known are {CELLS}")
    return {
        cell: Gap(why=said) if isinstance(said, str) else Gap(why=said["why"], told=said["is"])
        for cell, said in written.items()
    }


def _trace(
    written: Mapping[str, Any],
    recorded: Sequence[Mapping[str, Any]],
    gaps: Mapping[str, Gap],
) -> TraceTruth:
    calls = [call for call in recorded if call["asks"] == written["asks"]]
    calls += [
        {"requested": model, "answering": model, "finish": "stop", "tokens": None}
        for model in written.get("elsewhere", ())
    ]
    return TraceTruth(
        asks=written["asks"],
        cells={**_said(written), **_recorded(calls)},
        gaps={**gaps, **_gaps(written.get("gaps", {}))},
    )


def _said(written: Mapping[str, Any]) -> dict[str, Any]:
    errors = written.get("errors", 0)
    return {
        "name": written["name"],
        "status": written.get("status", "ERROR" if errors else "OK"),
        "types": written["types"],
        "tool_calls": sum(written.get("tools", {}).values()),
        "tools": written.get("tools", {}),
        "errors": errors,
        "agent": written.get("agent"),
        "session": written.get("session"),
        "user": written.get("user"),
        "request": written.get("request", question(written["asks"])),
        "response": _answer(written),
    }


def _answer(written: Mapping[str, Any]) -> str | None:
    if "response" in written:
        return written["response"] or None
    return None if written.get("embeds") else answer(written["asks"])


def question(asks: str) -> str:
    """What was asked, as scene.py says it."""
    known = {"sea": "Tell me all about the sea.", "fail": "Please fail."}
    return known.get(asks, f"What is the weather in {asks}?")


def answer(asks: str) -> str | None:
    known = {"sea": "The sea is", "fail": None}
    return known.get(asks, f"It is sunny in {asks}.")


def _recorded(calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tokens = [call["tokens"] for call in calls if call["tokens"]]
    used = {name: sum(each[name] for each in tokens) for name in TOKENS}
    return {
        "model_calls": len(calls),  # embeddings too
        # what no provider counted is unknown, not nothing
        **{name: used[name] or None for name in TOKENS},
        "cost": round(sum(map(cost, calls)), 12) if tokens else None,
        "truncated": sum(call["finish"] == "length" for call in calls),
        "models": Counter(call["requested"] for call in calls),  # a failed call has no other
        "answering": Counter(call["answering"] for call in calls if call["answering"]),
    }


def cost(call: Mapping[str, Any]) -> float:
    """What one call costs in US dollars by the providers' price lists."""
    if not (tokens := call["tokens"]):
        return 0.0
    of_input, of_cached, of_written, of_output = PRICES[call["answering"]]
    plain = tokens["input"] - tokens["cached"] - tokens["cache_write"]
    whole = (
        plain * of_input
        + tokens["cached"] * of_cached
        + tokens["cache_write"] * of_written
        + tokens["output"] * of_output
    )
    return whole / MILLION


def _whole(traces: Sequence[TraceTruth], gaps: Mapping[str, Gap]) -> TraceTruth:
    """What statistics say of all traces: sums of what is expected of each, or how many have a value."""
    cells = {cell: add(cell, [trace.expected(cell) for trace in traces]) for cell in traces[0].cells}
    cells["model_cost"] = cells["cost"]
    own = {cell: gap for cell, gap in gaps.items() if cell in CAPTURE_CELLS}
    return TraceTruth(asks="", cells=cells, gaps=own)


def add(cell: str, values: Iterable[Any]) -> Any:
    """Numbers are added up, counts by name too; of names and ids it is counted how many traces have them."""
    known = [value for value in values if value is not None]
    if cell in COUNTS:
        counts: Counter[str] = Counter()
        for value in known:
            counts.update(value)
        return dict(counts)
    if cell in NUMBERS:
        return round(sum(known), 12)
    return dict(Counter(known))
