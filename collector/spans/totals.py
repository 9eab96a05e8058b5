"""What the spans of a trace amount to, by the counting rules: the facts of the trace as a whole. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter

from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.counting import MODEL_KINDS, attempts_beside, counted, model_calls
from collector.spans.readers import MAX_AMOUNT
from collector.spans.summary_models import Cost, TraceStatus
from collector.spans.tree import Tree
from collector.spans.values import SpanFacts, Tokens, add_tokens
from collector.spans.vocabulary import agent_of_span_name

# what tells what a trace is about, where its root doesn't; of two that begin together the first of these
TELLING = (ObservationKind.AGENT, ObservationKind.WORKFLOW, ObservationKind.LLM)
# how OpenTelemetry names a span that makes an agent and doesn't run it
CREATES_AGENT = "create_agent"
LAST = 2**63 - 1
_getter = lru_cache(attrgetter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Positions in the tree: model calls, the spans whose tokens and costs are added up, tool calls."""

    calls: Sequence[int]
    tokens: Sequence[int]
    costs: Sequence[int]
    tools: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The trace as a whole. Times are nanoseconds since 1970; `end` is the last end of any span."""

    name: str | None
    status: TraceStatus
    start_unix_ns: int
    end_unix_ns: int
    service: str | None
    service_version: str | None
    environment: str | None
    agent: str | None
    workflow: str | None
    session: str | None
    user: str | None
    model_call_count: int
    error_span_count: int
    recovered_retry_count: int
    tokens: Tokens
    cost: Cost


def count(tree: Tree) -> Counted:
    """Which spans count for what."""
    tree = attempts_beside(tree)
    calls = model_calls(tree)
    return Counted(
        calls=calls,
        tokens=counted(tree, lambda span: tokens_of(span).known, calls),
        costs=counted(tree, lambda span: span.cost_usd is not None, calls),
        tools=tool_calls(tree),
    )


def total(tree: Tree, using: Counted) -> Totals:
    """The trace as a whole, from its tree."""
    spans = tree.spans
    begin, end = bounds(tree)
    failed = [span for span in spans if span.is_error]
    recovered = sum([span.is_recovered_retry for span in failed])
    return Totals(
        name=name_of(tree),
        status=_status(tree),
        start_unix_ns=begin,
        end_unix_ns=end,
        service=first_of("service", spans),
        service_version=first_of("service_version", spans),
        environment=first_of("environment", spans),
        agent=first_of("agent", spans) or next(filter(None, map(_assumed_agent, spans)), None),
        workflow=first_of("workflow", spans),
        session=session_of(tree),
        user=first_of("user", spans),
        model_call_count=len(using.calls),
        error_span_count=len(failed) - recovered,
        recovered_retry_count=recovered,
        tokens=add_tokens(tokens_of(spans[position]) for position in using.tokens),
        cost=_cost(tree, using),
    )


def tokens_of(span: SpanFacts) -> Tokens:
    """What a span's tokens are: on a model call its own, elsewhere a sum over the run if there is one."""
    own, run = span.tokens, span.aggregated_tokens
    if own is run:  # nobody said, as on most spans
        return own
    if span.kind in MODEL_KINDS:
        return own if own.known else run
    return run if run.known else own


def add_costs(spans: Iterable[SpanFacts]) -> float | None:
    # larger ones are read from spans no more, but may be stored
    costs = [span.cost_usd for span in spans if span.cost_usd is not None and span.cost_usd <= MAX_AMOUNT]
    # fsum doesn't depend on the order; below a millionth of a millionth is only how floats are written
    return round(math.fsum(costs), 12) if costs else None


def _cost(tree: Tree, using: Counted) -> Cost:
    sources = {tree.spans[position].cost_source for position in using.costs}
    priced = _under(tree, using.costs)
    return Cost(
        usd=add_costs(tree.spans[position] for position in using.costs),
        source=CostSource.NONE if not sources else sources.pop() if len(sources) == 1 else None,
        unpriced_model_calls=sum(
            not priced[call] and not _used_nothing(tree.spans[call]) for call in using.calls
        ),
    )


def _used_nothing(span: SpanFacts) -> bool:
    """An attempt at a model request that failed before there was an answer."""
    return span.model_attempt is not None and not tokens_of(span).known


def _under(tree: Tree, positions: Sequence[int]) -> list[bool]:
    """For each span whether it, or a span above it, is among `positions`."""
    covered = [False] * len(tree.spans)
    for position in positions:
        covered[position] = True
    for position, parent in enumerate(tree.parents):
        if parent is not None and covered[parent]:
            covered[position] = True
    return covered


def name_of(tree: Tree) -> str | None:
    """The root's name; below a web server's, that of the first span that tells more (mlflow#19730)."""
    if given := first_of("trace_name", tree.spans):
        return given
    if not tree.spans or not tree.spans[0].is_http:
        return first_of("name", tree.spans)
    told = min((span for span in tree.spans[1:] if span.kind in TELLING), key=telling_order, default=None)
    return tree.spans[0].name if told is None else told.name or tree.spans[0].name


def telling_order(span: SpanFacts) -> tuple[int, int, str]:
    """Of the spans that tell what a trace is about the earliest comes first, an agent before a call.

    To create an agent tells nothing yet.
    """
    start = LAST if span.name.startswith(CREATES_AGENT) else span.start_unix_ns
    return start, TELLING.index(span.kind), span.span_id


def _status(tree: Tree) -> TraceStatus:
    if not tree.root_count:
        return TraceStatus.UNKNOWN
    failed = any(tree.spans[position].is_error for position in tree.tops[: tree.root_count])
    return TraceStatus.ERROR if failed else TraceStatus.OK


def session_of(tree: Tree) -> str | None:
    """What a client named as the session, on the root first; else the conversation id of a run."""
    return first_of("session", tree.spans) or first_of("conversation", tree.spans)


def bounds(tree: Tree) -> tuple[int, int]:
    """First start and last end, in nanoseconds since 1970; spans without any time don't count."""
    timed = [span for span in tree.spans if span.start_unix_ns]
    if not timed:
        return 0, 0
    return min([span.start_unix_ns for span in timed]), max([span.end_unix_ns for span in timed])


def tool_calls(tree: Tree) -> list[int]:
    """Positions, one a call: a tool's span right under its own (an MCP client's) is the same call again."""
    calls = []
    for position, (span, parent) in enumerate(zip(tree.spans, tree.parents, strict=True)):
        if span.kind is not ObservationKind.TOOL:
            continue
        above = None if parent is None else tree.spans[parent]
        if above is None or above.kind is not ObservationKind.TOOL or above.tool != span.tool:
            calls.append(position)
    return calls


def owning_agents(tree: Tree) -> list[str | None]:
    """Each span's agent: its own word, else that of the nearest span above that gives one.

    Where none does, an agent is what its span is named after.
    """
    said: list[str | None] = []
    agents: list[str | None] = []
    for span, parent in zip(tree.spans, tree.parents, strict=True):
        said.append(span.agent or (None if parent is None else said[parent]))
        above = None if parent is None else agents[parent]
        agents.append(said[-1] or _assumed_agent(span) or above)
    return agents


def _assumed_agent(span: SpanFacts) -> str | None:
    return agent_of_span_name(span.name) if span.kind is ObservationKind.AGENT else None


def first_of(fact: str, spans: Iterable[SpanFacts]) -> str | None:
    """The first span's word that isn't empty."""
    return next(filter(None, map(_getter(fact), spans)), None)
