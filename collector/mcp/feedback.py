"""The one tool that writes: feedback on a trace, as an assessment in MLflow.

It goes the way of any client's request to MLflow: through the proxy, which asks the policy for
`assessments:write` in the experiment of the trace, and writes it down in the audit log.
"""

from collector.mcp.asking import Ask, Json, Question, ask_json
from collector.mcp.envelope import ToolAnswer
from collector.mcp.fitting import fit_in_turn
from collector.mcp.inputs import RecordFeedback
from collector.mlflow.rest import assessments_path

# MLflow's names for a judgement that a model has made
SOURCE = {"source_type": "LLM_JUDGE", "source_id": "mcp"}


async def record_feedback(given: RecordFeedback, ask: Ask, max_tokens: int) -> ToolAnswer:
    """Create the assessment; each call creates one more."""
    trace_id = given.trace_id.lower().removeprefix("tr-")
    question = Question(
        path=assessments_path(trace_id), document={"assessment": _assessment(given, trace_id)}
    )
    created = (await ask_json(ask, question)).get("assessment", {})
    telemetry = {"assessment_id": created.get("assessment_id"), "trace_id": trace_id, "name": given.name}
    fitted = await fit_in_turn(telemetry, (), max_tokens=max_tokens)
    return ToolAnswer(telemetry=fitted.telemetry, omitted=fitted.omitted)


def _assessment(given: RecordFeedback, trace_id: str) -> Json:
    said = {
        "assessment_name": given.name,
        "trace_id": f"tr-{trace_id}",
        "span_id": given.span_id,
        "source": SOURCE,
        "feedback": {"value": given.value},
        "rationale": given.rationale,
    }
    return {name: value for name, value in said.items() if value is not None}
