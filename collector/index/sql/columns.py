"""Where the values that questions name stand in the tables: SQL by name, for each that is counted. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from collector.index.queries.stats import TOKENS
from collector.spans.vocabulary import TRUNCATED

# between the texts of a list within a text, and at both ends
SEPARATOR = "\x1f"

# what tells one of several rows that began at the same time, so that an answer is always the same
LATEST = "(start_unix_ns, trace_id)"
LATEST_SPAN = "(start_unix_ns, trace_id, span_id)"

_FAILED = "is_error AND NOT recovered_retry"
_SHARED = {name: name for name in ("experiment", "service", "environment", "session", "run_id", "status")}
TRACE_COLUMNS: Mapping[str, str] = {
    **_SHARED,
    "name": "name",
    "version": "service_version",
    "agent": "agents",
    "model": "models",
    "response_model": "response_models",
    "provider": "providers",
    "tool": "tools",
    "prompt": "prompts",
    "prompt_name": "prompt_names",
    "links_to": "linked_traces",
    "user": '"user"',
    "error": "error_group",
    "tag": "tags",
}
SPAN_COLUMNS: Mapping[str, str] = {
    **_SHARED,
    "name": "of_trace",
    "span": "name",
    "kind": "kind",
    "version": "service_version",
    "agent": "owning_agent",
    # as `called_model` and `answering_model` of SpanFacts
    "model": "coalesce(request_model, model)",
    "response_model": "coalesce(response_model, CASE WHEN NOT is_error THEN model END)",
    "provider": "provider",
    "tool": "tool",
    "prompt": "coalesce(prompt_version, prompt_name)",
    "prompt_name": "prompt_name",
    "session": "of_session",
    "user": "of_user",
    "run_id": "of_run",
    "status": f"CASE WHEN {_FAILED} THEN 'ERROR' ELSE 'OK' END",
    "error": "error_group",
}
_TRACE_CONDITIONS = {
    "error": "status = 'ERROR'",
    "incomplete": "NOT complete",
    "with_cost": "cost_usd IS NOT NULL",
    "with_tokens": "total_tokens IS NOT NULL",
}
# several reasons stand with ", " between them
_TRUNCATED = " OR ".join(
    f"position(', {reason}, ' IN ', ' || finish_reason || ', ') > 0" for reason in sorted(TRUNCATED)
)
_SPAN_CONDITIONS = {
    "error": _FAILED,
    "recovered_retry": "recovered_retry",
    "model_call": "model_call",
    "failed_model_call": f"model_call AND {_FAILED}",
    "counts_cost": "counts_cost",
    "truncated": f"coalesce({_TRUNCATED}, false)",
}
_USER = {"user": '"user"'}


def _of_model_calls(name: str) -> str:
    return f"CASE counts_tokens WHEN 'own' THEN {name}_tokens WHEN 'run' THEN aggregated_{name}_tokens END"


# columns of `scores` by the dimensions of traces
SCORE_TABLE: Mapping[str, str] = {"score": "name", "label": "label"}
# a score's own columns, beside those of its trace
_SCORE_NAMES = {"score": "score_name", "label": "score_label", "source": "score_source", "judge": "judge"}
# where both sides of a join have a name, engines name the column of one of them otherwise
SCORED = "experiment AS scored_experiment, trace_id AS scored_trace"
_SCORES = (
    f"(SELECT t.*, s.* FROM traces t JOIN (SELECT {SCORED}, name AS score_name, value AS score_value,"
    " label AS score_label, source AS score_source, judge, error_type AS score_error FROM scores) s"
    " ON t.experiment = s.scored_experiment AND t.trace_id = s.scored_trace)"
)
_SCORE_CONDITIONS = {
    "error": "score_error IS NOT NULL",
    "labelled": "score_label IS NOT NULL",
    "passed": "score_label = 'pass'",
    "judged": "score_label IN ('pass', 'fail')",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedTable:
    """Where something that is counted stands. `values` are those that aren't columns of their own name.

    `condition` holds for its rows.
    """

    table: str
    columns: Mapping[str, str]
    conditions: Mapping[str, str]
    values: Mapping[str, str] = field(default_factory=dict)
    condition: str = "true"

    def value(self, name: str) -> str:
        """SQL of a value that a metric names."""
        return self.values.get(name, name)


COUNTED: Mapping[str, CountedTable] = {
    "traces": CountedTable(table="traces", columns=TRACE_COLUMNS, conditions=_TRACE_CONDITIONS, values=_USER),
    "spans": CountedTable(table="spans", columns=SPAN_COLUMNS, conditions=_SPAN_CONDITIONS),
    "models": CountedTable(
        table="spans",
        columns=SPAN_COLUMNS,
        conditions=_SPAN_CONDITIONS,
        values={
            "duration_ns": "CASE WHEN model_call THEN duration_ns END",
            **{f"{name}_tokens": _of_model_calls(name) for name in TOKENS},
        },
        # and what stands for model calls that say nothing themselves
        condition="(model_call OR counts_tokens IS NOT NULL OR counts_cost)",
    ),
    "tools": CountedTable(
        table="spans", columns=SPAN_COLUMNS, conditions=_SPAN_CONDITIONS, condition="tool_call"
    ),
    "errors": CountedTable(
        table="spans", columns=SPAN_COLUMNS, conditions=_SPAN_CONDITIONS, condition=f"({_FAILED})"
    ),
    # of the traces that are meant, put together (sql/stats.py)
    "sessions": CountedTable(
        table="traces", columns=TRACE_COLUMNS, conditions={"error": "errors > 0"}, values=_USER
    ),
    "scores": CountedTable(
        table=_SCORES, columns={**TRACE_COLUMNS, **_SCORE_NAMES}, conditions=_SCORE_CONDITIONS, values=_USER
    ),
}
