"""Log records as they leave: hidden and redacted as spans are."""

from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import ReadWriteLogRecord

from instrumentation.mend_logs import LogMending

SECRET = "the prompt"


def emitted(name: str, body: Any = None, **attributes: Any) -> ReadWriteLogRecord:
    said = {key.replace("__", "."): value for key, value in attributes.items()}
    return ReadWriteLogRecord(LogRecord(event_name=name, body=body, attributes=said))


def sent(record: ReadWriteLogRecord, **how: Any) -> tuple[Any, dict[str, Any]]:
    """The body and the attributes of what leaves."""
    mended = LogMending(**how).mend(record).log_record
    return mended.body, dict(mended.attributes or {})


HIDDEN = [
    pytest.param(emitted("gen_ai.user.message", {"content": SECRET}), "hide_inputs", id="question"),
    pytest.param(emitted("gen_ai.tool.message", content=SECRET), "hide_inputs", id="result_of_a_tool"),
    pytest.param(emitted("gen_ai.assistant.message", {"content": SECRET}), "hide_inputs", id="history"),
    pytest.param(emitted("gen_ai.assistant.message", {"content": SECRET}), "hide_outputs", id="old_answer"),
    pytest.param(emitted("gen_ai.choice", {"message": {"content": SECRET}}), "hide_outputs", id="answer"),
    pytest.param(
        emitted("gen_ai.client.inference.operation.details", gen_ai__input__messages=[{"content": SECRET}]),
        "hide_inputs",
        id="details_of_the_request",
    ),
    pytest.param(
        emitted("gen_ai.client.inference.operation.details", gen_ai__output__messages=[{"content": SECRET}]),
        "hide_outputs",
        id="details_of_the_response",
    ),
    pytest.param(
        emitted("gen_ai.evaluation.result", SECRET, gen_ai__evaluation__explanation=SECRET),
        "hide_outputs",
        id="explanation",
    ),
    pytest.param(emitted("", f"asked {SECRET}"), "hide_inputs", id="plain_log"),
]


@pytest.mark.parametrize(("record", "switch"), HIDDEN)
def test_what_is_hidden_does_not_leave(record: ReadWriteLogRecord, switch: str) -> None:
    assert SECRET in str(sent(record))
    assert SECRET not in str(sent(record, **{switch: True}))


def test_answers_are_hidden_in_the_history_too() -> None:
    asked, answered = {"role": "user", "content": "mine"}, {"role": "assistant", "content": SECRET}
    for messages in ([asked, answered], f"[{SECRET}]"):
        details = emitted("gen_ai.client.inference.operation.details", gen_ai__input__messages=messages)
        found = sent(details, hide_outputs=True)[1]["gen_ai.input.messages"]
        assert SECRET not in str(found)
        assert isinstance(messages, str) or found == [asked]


def test_the_other_side_leaves() -> None:
    question = emitted("gen_ai.user.message", {"content": SECRET})
    assert sent(question, hide_outputs=True)[0] == {"content": SECRET}
    answer = emitted("gen_ai.choice", {"message": SECRET})
    assert sent(answer, hide_inputs=True)[0] == {"message": SECRET}


def test_a_score_leaves_whatever_is_hidden() -> None:
    score = emitted(
        "gen_ai.evaluation.result", gen_ai__evaluation__name="a", gen_ai__evaluation__score__value=1.0
    )
    assert sent(score, hide_inputs=True, hide_outputs=True)[1] == {
        "gen_ai.evaluation.name": "a",
        "gen_ai.evaluation.score.value": 1.0,
    }


def test_redact_sees_attributes_and_the_body() -> None:
    record = emitted("x", "the body", keep="a", gone="b", fails="c")

    def redact(key: str, value: Any) -> Any:
        if key == "fails":
            raise ValueError
        return None if key == "gone" else f"{key}: {value}"

    assert sent(record, redact=redact) == ("body: the body", {"keep": "keep: a"})
    assert record.log_record.body == "the body", "other processors see the record as it was"
