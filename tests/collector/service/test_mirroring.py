"""When MLflow's questions are answered here."""

from pathlib import Path
from typing import Any

import pytest

from collector.mlflow.client import Mlflow
from collector.model.errors import Misconfigured
from collector.service.mirroring import answering_of, with_answers
from collector.settings import Settings, load
from collector.telemetry.metrics import Metrics

AUTO = {"proxy.answer_from_index": "auto", "mlflow.database": "sqlite"}


def settings(tmp_path: Path, **flags: Any) -> Settings:
    return load(flags={"data_dir": str(tmp_path), **flags}, file=None)


def test_mlflow_answers_itself_by_default(tmp_path: Path) -> None:
    assert settings(tmp_path).proxy.answer_from_index == "off"


def test_a_service_with_an_mlflow_of_its_own_answers(tmp_path: Path) -> None:
    found = with_answers(settings(tmp_path))
    assert (found.proxy.answer_from_index, found.mlflow.database) == ("auto", "sqlite")
    assert found.mlflow.database_file == (tmp_path / "mlflow" / "mlflow.db").resolve()


@pytest.mark.parametrize("flags", [{"proxy.answer_from_index": "off"}, {"index.enabled": False}])
def test_unless_it_is_told_not_to_or_has_no_index(tmp_path: Path, flags: dict[str, Any]) -> None:
    assert with_answers(settings(tmp_path, **flags)).proxy.answer_from_index == "off"


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        pytest.param({"mlflow.database": "other"}, "database", id="another_database"),
        pytest.param({"server.takeover": True}, "takeover", id="an_old_process_that_writes"),
        pytest.param({}, "index", id="no_index_in_DuckDB"),
        pytest.param(
            {"journal.url": "kafka://b:9092/log", "index.enabled": False},
            "embedded journal, and journal.url names Kafka",
            id="replicas",
        ),
    ],
)
def test_what_can_not_be_known_is_refused_at_the_start(
    tmp_path: Path, flags: dict[str, Any], word: str
) -> None:
    mlflow: Any = object.__new__(Mlflow)
    with pytest.raises(Misconfigured, match=word):
        answering_of(settings(tmp_path, **AUTO | flags), None, mlflow, Metrics())
