"""What `sidespan doctor` says of MLflow's questions."""

from collector.cli.doctor_questions import MEANINGS, check_questions
from collector.mirror.question import PassOnReason


def test_each_reason_has_a_meaning() -> None:
    assert set(MEANINGS) == set(PassOnReason)


def test_why_mlflow_was_asked_is_said_the_most_frequent_first() -> None:
    part = {
        "reason": "7 of 12 questions to MLflow answered from the index",
        "questions": {"index": 7, "workspace": 1, "counts_differ": 4},
        "copies": [{"experiment_id": "3", "ready": False, "traces": 5, "total": 9}],
        "lacking": [{"experiment_id": "3", "traces": 4}],
    }
    (check,) = check_questions({"parts": {"questions": part}})
    assert check.ok
    assert check.finding.split("; ") == [
        "7 of 12 questions to MLflow answered from the index",
        "4 times MLflow counts other traces, and is read again",
        "1 times a workspace is named",
        "experiment 3 is copied: 5 of 9 traces",
        "the index lacks 4 traces of experiment 3, and reads them",
    ]


def test_nothing_is_said_where_nothing_is_answered() -> None:
    assert list(check_questions({"parts": {}})) == []
