"""The tables of the index: columns, their SQL types, and where a column's value stands in the facts. Pure.

    experiments   where traces are in MLflow; a number stands for one, known by id, by name, or by both
    traces        one row a trace of an experiment: the whole by the counting rules
    spans         one row a span: its facts, and what it counts for within its trace
    labels        session, user and tags that MLflow holds of a trace, whether its spans are here or not
    scores        one row an evaluation, whether its trace is here or not; its key is its own within the trace
    cursors       how far each lane of the journal is in here

Times are nanoseconds since 1970 (BIGINT), ids as numbers: a trace id is a UUID, a span id a UBIGINT. Lists
within a text stand between SEPARATORs (index/sql/columns.py), at both ends too, so that a look for one of
them is a look for text.
"""

from dataclasses import dataclass

from collector.spans.conventions import TOKEN_KINDS


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `fact` is the attribute of SpanFacts that it holds, "" where rows.py works it out."""

    name: str
    type: str
    fact: str = ""


def _facts(type: str, *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, type, name) for name in names)


def _tokens(prefix: str, fact: str) -> tuple[Column, ...]:
    return tuple(
        Column(f"{prefix}{name}_tokens", "BIGINT", f"{fact}.{name}" if fact else "") for name in TOKEN_KINDS
    )


# what a span says itself: enough to build its facts again
FACT_COLUMNS: tuple[Column, ...] = (
    *_facts("VARCHAR", "name"),
    *_facts("BIGINT", "start_unix_ns", "duration_ns"),
    *_facts("VARCHAR", "kind"),
    *_facts("BOOLEAN", "is_http", "is_roll_up", "input_excluded_cache", "is_error"),
    *_facts("VARCHAR", "trace_name", "model", "request_model", "response_model", "provider"),
    *_facts("VARCHAR", "agent", "tool", "workflow"),
    *_facts("VARCHAR", "session", "conversation", "user"),
    *_tokens("", "tokens"),
    *_tokens("aggregated_", "aggregated_tokens"),
    *_facts("DOUBLE", "cost_usd"),
    *_facts("VARCHAR", "cost_source"),
    *_facts("DOUBLE", "time_to_first_token_seconds"),
    *_facts("VARCHAR", "finish_reason", "prompt_version", "prompt_name", "error_type", "retry_cause"),
    *_facts("BIGINT", "retry_attempt", "retry_max", "model_attempt"),
    *_facts("VARCHAR", "service", "service_version", "environment"),
)

SPAN_COLUMNS: tuple[Column, ...] = (
    Column("experiment", "INTEGER"),
    Column("trace_id", "UUID"),
    Column("span_id", "UBIGINT"),
    Column("parent_span_id", "UBIGINT"),
    *FACT_COLUMNS,
    Column("tags", "VARCHAR"),  # JSON pairs
    Column("links", "VARCHAR"),  # JSON pairs of trace id and span id
    Column("error_message", "VARCHAR"),  # a preview
    Column("error_group", "VARCHAR"),  # the message without what differs from case to case
    # what the span counts for within its trace
    Column("recovered_retry", "BOOLEAN"),
    Column("model_call", "BOOLEAN"),
    Column("tool_call", "BOOLEAN"),
    Column("counts_tokens", "VARCHAR"),  # which of its two sums is added up: own, run, or NULL for none
    Column("counts_cost", "BOOLEAN"),
    Column("self_ns", "BIGINT"),
    Column("owning_agent", "VARCHAR"),
    # the trace's, so that spans can be told apart by it
    Column("of_trace", "VARCHAR"),
    Column("of_session", "VARCHAR"),
    Column("of_user", "VARCHAR"),
    Column("of_run", "VARCHAR"),
    # JSON of what the span says itself, where it tells of the same call as another one and the facts above
    # are put together or left out
    Column("own_facts", "VARCHAR"),
)

TRACE_COLUMNS: tuple[Column, ...] = (
    Column("experiment", "INTEGER"),
    Column("trace_id", "UUID"),
    Column("low_ns", "BIGINT"),  # the first start of any span, even of one without a time
    Column("start_unix_ns", "BIGINT"),
    Column("duration_ns", "BIGINT"),
    Column("root_duration_ns", "BIGINT"),
    Column("seen_unix_ns", "BIGINT"),  # when it was first indexed, for retention
    Column("name", "VARCHAR"),
    Column("status", "VARCHAR"),
    Column("complete", "BOOLEAN"),
    Column("missing_parents", "INTEGER"),
    Column("service", "VARCHAR"),
    Column("service_version", "VARCHAR"),
    Column("environment", "VARCHAR"),
    Column("agent", "VARCHAR"),
    Column("agents", "VARCHAR"),  # with separators, as models, tools, prompts and tags
    Column("workflow", "VARCHAR"),
    Column("session", "VARCHAR"),
    Column("user", "VARCHAR"),
    Column("run_id", "VARCHAR"),
    Column("models", "VARCHAR"),  # as they were asked for
    Column("response_models", "VARCHAR"),  # as they answered
    Column("providers", "VARCHAR"),
    Column("tools", "VARCHAR"),
    Column("prompts", "VARCHAR"),
    Column("prompt_names", "VARCHAR"),
    Column("linked_traces", "VARCHAR"),
    Column("tags", "VARCHAR"),
    Column("span_count", "INTEGER"),
    Column("model_calls", "INTEGER"),
    Column("tool_calls", "INTEGER"),
    Column("error_spans", "INTEGER"),
    Column("recovered_retries", "INTEGER"),
    Column("truncated_calls", "INTEGER"),  # model calls that ended at their length
    *_tokens("", ""),
    Column("cost_usd", "DOUBLE"),
    Column("cost_source", "VARCHAR"),
    Column("unpriced_model_calls", "INTEGER"),
    Column("time_to_first_token_seconds", "DOUBLE"),  # from the trace's start to the first model call's
    Column("error_type", "VARCHAR"),
    Column("error_message", "VARCHAR"),
    Column("error_group", "VARCHAR"),
)

LABEL_COLUMNS: tuple[Column, ...] = (
    Column("experiment", "INTEGER"),
    Column("trace_id", "UUID"),
    Column("session", "VARCHAR"),
    Column("user", "VARCHAR"),
    Column("tags", "VARCHAR"),  # JSON pairs
    Column("seen_unix_ns", "BIGINT"),
)

# without the explanation, which is content
SCORE_COLUMNS: tuple[Column, ...] = (
    Column("experiment", "INTEGER"),
    Column("trace_id", "UUID"),
    Column("span_id", "UBIGINT"),  # NULL: the whole trace was judged
    Column("key", "VARCHAR"),
    Column("name", "VARCHAR"),
    Column("value", "DOUBLE"),
    Column("label", "VARCHAR"),
    Column("error_type", "VARCHAR"),  # of an evaluator that failed
    Column("source", "VARCHAR"),  # which evaluator or person
    Column("judge", "VARCHAR"),  # HUMAN, LLM_JUDGE or CODE
    Column("session", "VARCHAR"),  # where the whole session was judged
    Column("time_unix_ns", "BIGINT"),
    Column("seen_unix_ns", "BIGINT"),  # when it was received, for retention
    Column("from_mlflow", "BOOLEAN"),  # MLflow says so, and has the last word
)
