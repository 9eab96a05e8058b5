"""The shapes of the index's answers, for the document about the API and for those who read it. Pure.

Durations are seconds, times nanoseconds since 1970, money US dollars; None is "nobody said".
"""

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class TraceScore(Shape):
    """What was said of a trace, or of one of its spans, by one name."""

    name: str
    value: float | None
    label: str | None
    """A category, pass or fail, or nothing."""
    error_type: str | None
    """Of an evaluator that failed."""
    source: str | None
    judge: str
    """HUMAN, LLM_JUDGE or CODE."""
    span_id: str | None
    session: str | None
    """Where the whole session was judged."""
    time_unix_ns: int


class TraceRow(Shape):
    """One trace, by the counting rules."""

    trace_id: str
    name: str
    start_unix_ns: int
    duration_seconds: float
    status: str
    """OK, ERROR (its root failed), or UNKNOWN (the root was not seen)."""
    complete: bool
    experiment_id: str | None
    experiment_name: str | None
    service: str | None
    service_version: str | None
    environment: str | None
    agent: str | None
    agents: list[str]
    session: str | None
    user: str | None
    run_id: str | None
    models: list[str]
    """As they were asked for."""
    response_models: list[str]
    """As they answered."""
    tools: list[str]
    tags: list[str]
    span_count: int
    model_calls: int
    tool_calls: int
    error_spans: int
    recovered_retries: int
    missing_parents: int
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cache_read_tokens: int | None
    """Part of the input."""
    cache_write_tokens: int | None
    """Part of the input."""
    reasoning_tokens: int | None
    """Part of the output."""
    text_input_tokens: int | None
    """Part of the input."""
    image_input_tokens: int | None
    """Part of the input."""
    audio_input_tokens: int | None
    """Part of the input."""
    video_input_tokens: int | None
    """Part of the input."""
    text_output_tokens: int | None
    """Part of the output."""
    image_output_tokens: int | None
    """Part of the output."""
    audio_output_tokens: int | None
    """Part of the output."""
    video_output_tokens: int | None
    """Part of the output."""
    cost_usd: float | None
    cost_source: str
    """client, mlflow, table (the public price list), mixed, or none."""
    unpriced_model_calls: int
    """With any, the cost is a lower bound."""
    time_to_first_token_seconds: float | None
    error_type: str | None
    error_message: str | None
    scores: list[TraceScore]
    """The first hundred, the oldest first."""


class NewSpan(Shape):
    """A span that has arrived."""

    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    start_unix_ns: int
    duration_seconds: float
    is_error: bool
    model: str | None
    tool: str | None
    cost_usd: float | None


class ChangedTraceEvent(Shape):
    """A trace that has new spans: its row, and those spans."""

    trace: TraceRow
    spans: list[NewSpan]
    """Of a batch with more of one trace, the first 200."""


class TracePage(Shape):
    """Rows of traces."""

    traces: list[TraceRow]
    next_cursor: str | None


class SessionRow(Shape):
    """One conversation: its traces that were meant, summed up."""

    session: str
    experiment_id: str | None
    experiment_name: str | None
    user: str | None
    agents: list[str]
    start_unix_ns: int
    end_unix_ns: int
    duration_seconds: float
    """From the first start to the last end."""
    busy_seconds: float
    """The sum of its turns."""
    turns: int
    errors: int
    recovered_retries: int
    model_calls: int
    tool_calls: int
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    text_input_tokens: int | None
    image_input_tokens: int | None
    audio_input_tokens: int | None
    video_input_tokens: int | None
    text_output_tokens: int | None
    image_output_tokens: int | None
    audio_output_tokens: int | None
    video_output_tokens: int | None
    cost_usd: float | None
    scores: int
    """How many its turns have."""
    first_trace_id: str
    last_trace_id: str


class SessionPage(Shape):
    """Rows of sessions."""

    sessions: list[SessionRow]
    next_cursor: str | None


class ErrorRow(Shape):
    """Errors whose messages are the same but for ids, numbers and names."""

    error: str
    type: str | None
    traces: int
    spans: int
    first_unix_ns: int
    last_unix_ns: int
    kinds: list[str]
    agents: list[str]
    models: list[str]
    tools: list[str]
    example_message: str | None
    example_trace_id: str


class ErrorPage(Shape):
    """Groups of errors."""

    errors: list[ErrorRow]
    next_cursor: str | None


class Step(Shape):
    """The metrics within one step of the time axis."""

    start_unix_ns: int
    values: dict[str, float | None]


class Group(Shape):
    """The metrics of one group, by the dimensions that it stands for."""

    key: dict[str, str | None]
    values: dict[str, float | None]
    series: list[Step] | None = None


class Stats(Shape):
    """Numbers: in all, by group, over time."""

    of: str
    by: list[str]
    metrics: list[str]
    total: dict[str, float | None]
    groups: list[Group]
    more_groups: bool
    bucket_seconds: int | None = None
    series: list[Step] | None = None


class Both(Shape):
    """A number on both sides, how much more b has, and how often a goes into b."""

    a: float | None
    b: float | None
    difference: float | None
    ratio: float | None


class ComparedGroup(Shape):
    """One group on both sides."""

    key: dict[str, str | None]
    values: dict[str, Both]


class Compared(Shape):
    """Two sides, side by side."""

    of: str
    by: list[str]
    metrics: list[str]
    total: dict[str, Both]
    groups: list[ComparedGroup]


class Overview(Shape):
    """What the page shows first; in `totals`, `a` is the period before, if `since` was given."""

    totals: dict[str, Both]
    bucket_seconds: int
    axis: list[Step]
    agents: list[Group]
    models: list[Group]
    tools: list[Group]
    errors: list[Group]
    scores: list[Group]


class Session(Shape):
    """One conversation with its turns, oldest first; in several experiments it is several rows."""

    sessions: list[SessionRow]
    turns: list[TraceRow]
    turns_omitted: int
    models: list[Group]
    tools: list[Group]


class Facet(Shape):
    """A value, and how many traces have it."""

    value: str
    count: int


class Facets(Shape):
    """What there is to filter by."""

    experiment: list[Facet]
    service: list[Facet]
    environment: list[Facet]
    version: list[Facet]
    agent: list[Facet]
    model: list[Facet]
    response_model: list[Facet]
    tool: list[Facet]
    name: list[Facet]
    user: list[Facet]
