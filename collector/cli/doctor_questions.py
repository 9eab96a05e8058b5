"""What `sidespan doctor` says of MLflow's questions that Sidespan may answer itself."""

from collections.abc import Iterator, Mapping
from typing import Any

from collector.cli import remote
from collector.cli.doctor_check import DoctorCheck
from collector.mirror.question import PassOnReason

# reason -> what it means
MEANINGS: Mapping[str, str] = {
    PassOnReason.UNREADABLE: "a form that is left to MLflow",
    PassOnReason.QUICK: "a search that MLflow answers fast",
    PassOnReason.CREDENTIALS: "MLflow has to judge the client's own credentials",
    PassOnReason.WORKSPACE: "a workspace is named",
    PassOnReason.INDEX_AWAY: "the index can't be asked",
    PassOnReason.NOT_HELD: "its experiment is being copied",
    PassOnReason.TOO_MANY: "more traces than proxy.answer_max_traces",
    PassOnReason.COUNTS_DIFFER: "MLflow counts other traces, and is read again",
    PassOnReason.CHANGED_ELSEWHERE: "MLflow's database was changed without Sidespan, and is read again",
    PassOnReason.OTHER_DATABASE: "mlflow.database_file is not the database of this MLflow",
    PassOnReason.WRITES_PENDING: "writes were not read back yet",
    PassOnReason.HELD_IN_PART: "MLflow doesn't tell all of some traces",
    PassOnReason.SPAN_TYPES: "MLflow doesn't tell the types of some spans",
    PassOnReason.SPAN_ENDS: "some spans have no end",
    PassOnReason.FAILED: "MLflow could not be asked for its count",
}


def check_questions(health: Mapping[str, Any] | remote.CannotReach) -> Iterator[DoctorCheck]:
    """How many were answered, and why MLflow was asked the others; nothing where none are answered."""
    part = None if isinstance(health, remote.CannotReach) else health.get("parts", {}).get("questions")
    if part is None:
        return
    others = [(count, name) for name, count in part["questions"].items() if name != "index"]
    why = [f"{count} times {MEANINGS.get(name, name)}" for count, name in sorted(others, reverse=True)]
    copying = [
        f"experiment {each['experiment_id']} is copied: {each['traces']} of {each['total']} traces"
        for each in part["copies"]
        if not each["ready"]
    ]
    lacking = [
        f"the index lacks {each['traces']} traces of experiment {each['experiment_id']}, and reads them"
        for each in part.get("lacking", ())
    ]
    findings = [part["reason"], *why, *copying, *lacking]
    yield DoctorCheck(name="questions", ok=True, finding="; ".join(findings))
