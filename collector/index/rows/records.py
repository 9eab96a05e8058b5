"""The rows of one trace by column, for the type checker."""

from typing import TypedDict


class FormOfTrace(TypedDict):
    """What a row of `traces` says that follows from the trace's form (form.py)."""

    status: str
    complete: bool
    missing_parents: int
    service: str | None
    service_version: str | None
    environment: str | None
    agent: str | None
    workflow: str | None
    span_count: int
    model_calls: int
    tool_calls: int
    error_spans: int
    recovered_retries: int
    truncated_calls: int
    cost_source: str
    unpriced_model_calls: int
    agents: str | None
    models: str | None
    response_models: str | None
    providers: str | None
    tools: str | None
    prompts: str | None
    prompt_names: str | None


class GivenOfTrace(TypedDict):
    """What a row of `traces` says that doesn't follow from its spans."""

    experiment: int
    run_id: str | None
    seen_unix_ns: int


class TokensOfTrace(TypedDict):
    """The tokens of a trace: the fields of `Tokens`."""

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


class TraceRecord(GivenOfTrace, FormOfTrace, TokensOfTrace):
    """A row of `traces`, by column."""

    trace_id: str
    low_ns: int
    start_unix_ns: int
    duration_ns: int
    root_duration_ns: int | None
    name: str
    session: str | None
    user: str | None
    linked_traces: str | None
    tags: str | None
    cost_usd: float | None
    time_to_first_token_seconds: float | None
    error_type: str | None
    error_message: str | None
    error_group: str | None


class SpanOfForm(TypedDict):
    """What a row of `spans` says beside the facts that follows from the trace's form (form.py)."""

    recovered_retry: bool
    model_call: bool
    tool_call: bool
    counts_tokens: str | None
    counts_cost: bool
    owning_agent: str | None


class TraceOfSpan(TypedDict):
    """What a row of `spans` says of its trace."""

    of_trace: str
    of_session: str | None
    of_user: str | None
    of_run: str | None
