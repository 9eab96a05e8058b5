"""The main path with real parts: an agent's trace goes in, is in MLflow soon, and can be asked for."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from collector.cli import remote
from tests.support.forked import sidespan_command
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export, all_spans, export, trace_ids_of
from tests.support.senders import post
from tests.support.sidespan import Sidespan
from tests.support.timing import patient, within

REPOSITORY = Path(__file__).parents[2]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIDESPAN_", "OTEL_"))}
    if command[:2] == ("-m", "collector"):
        return sidespan_command(*command[2:], **environment)
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=REPOSITORY,
        env=clean | environment,
    )


def test_an_agents_trace_is_in_mlflow_and_summarised(
    mlflow_server: MlflowServer, shared_sidespan: Sidespan, experiment_id: str
) -> None:
    done = run(
        "examples/weather_agent.py",
        "--json",
        SIDESPAN_ENDPOINT=shared_sidespan.url,
        SIDESPAN_EXPERIMENT=experiment_id,
    )
    assert done.returncode == 0, done.stderr
    trace_id = json.loads(done.stdout)["trace_id"]
    shared_sidespan.wait_delivered(120)

    assert {trace for trace, _ in mlflow_server.spans(experiment_id)} == {f"tr-{trace_id}"}
    summary = remote.get_json(shared_sidespan.url, f"/-/traces/{trace_id}")
    assert summary["experiment"]["id"] == experiment_id
    line = run("-m", "collector", "summary", "trace", trace_id, "--one-line", "--url", shared_sidespan.url)
    assert line.returncode == 0
    assert "3 model calls" in line.stdout
    assert "2 tool calls" in line.stdout


def test_an_accepted_trace_is_visible_in_mlflow_within_2_seconds_when_idle(
    mlflow_server: MlflowServer, shared_sidespan: Sidespan, experiment_id: str
) -> None:
    headers = {"x-mlflow-experiment-id": experiment_id}
    # MLflow's first request loads half of it
    post(shared_sidespan.port, export().SerializeToString(), headers)
    shared_sidespan.wait_delivered(60)

    @patient
    def is_visible_soon() -> None:
        before = len(mlflow_server.spans(experiment_id))
        with within(2.0):
            post(shared_sidespan.port, export().SerializeToString(), headers)
            while len(mlflow_server.spans(experiment_id)) == before:
                time.sleep(0.02)

    is_visible_soon()


def test_a_trace_is_summarised_while_mlflow_is_away(sidespan: Sidespan) -> None:
    sidespan.mlflow_url = "http://127.0.0.1:9"
    sidespan.start()
    request = agent_export()
    assert post(sidespan.port, request.SerializeToString(), {"x-mlflow-experiment-name": "later"})[0] == 200
    summary = remote.get_json(sidespan.url, f"/-/traces/{trace_ids_of(request).pop().hex()}")
    assert summary["span_count"] == len(all_spans(request))
    assert summary["experiment"]["name"] == "later"
    assert "MLflow" in summary["incomplete"]


def test_a_trace_goes_to_the_experiment_of_its_name_and_is_linked_to_its_run(
    mlflow_server: MlflowServer, shared_sidespan: Sidespan, experiment_id: str
) -> None:
    run_id = mlflow_server.create_run(experiment_id)
    request = agent_export()
    headers = {"x-mlflow-experiment-id": experiment_id, "x-mlflow-run-id": run_id}
    assert post(shared_sidespan.port, request.SerializeToString(), headers)[0] == 200
    shared_sidespan.wait_delivered(120)
    trace_id = f"tr-{trace_ids_of(request).pop().hex()}"
    found = remote.post_json(
        mlflow_server.url,
        "/api/3.0/mlflow/traces/search",
        {
            "locations": [
                {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}}
            ],
            "filter": f"attributes.run_id = '{run_id}'",
        },
    )
    assert [trace["trace_id"] for trace in found["traces"]] == [trace_id]


def test_delivered_entries_are_replayed_on_request(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    sidespan.environment = {"SIDESPAN_JOURNAL__RETENTION_SECONDS": "600"}
    sidespan.start()
    post(sidespan.port, export().SerializeToString(), {"x-mlflow-experiment-id": experiment_id})
    sidespan.wait_delivered(120)
    done = run("-m", "collector", "replay", "--since", "10m", "--json", "--url", sidespan.url)
    assert json.loads(done.stdout) == {"replayed": 1}
    sidespan.wait_delivered(120)
    assert len(mlflow_server.spans(experiment_id)) == 1


def test_doctor_says_ok_for_a_service_that_is_well_and_1_for_one_that_is_not(
    mlflow_server: MlflowServer, shared_sidespan: Sidespan
) -> None:
    arguments = ("-m", "collector", "doctor", "--json", "--mlflow-url", mlflow_server.url)
    well = run(*arguments, "--url", shared_sidespan.url)
    assert well.returncode == 0, well.stdout
    assert json.loads(well.stdout)["ok"]
    ill = run(*arguments, "--url", "http://127.0.0.1:9")
    assert ill.returncode == 1
    bad = [check for check in json.loads(ill.stdout)["checks"] if not check["ok"]]
    assert [check["name"] for check in bad] == ["service"]
    assert "start it with" in bad[0]["way_out"]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["serve", "--port", "4318x"], {}, "valid integer"),
        (["serve"], {"SIDESPAN_SERVER__PROT": "1"}, "did you mean server.port"),
        (["serve"], {"SIDESPAN_SERVER__HOST": "0.0.0.0"}, 'auth.mode = "none"'),
        (["serve", "--data-dir", "/proc/nowhere"], {}, "can't be written"),
        (["serve", "--config", "missing.toml"], {}, "missing.toml"),
        (["dead-letters", "list", "--url", "http://127.0.0.1:9"], {}, "no Sidespan answers"),
        (["replay", "--since", "yesterday"], {}, "must be 90s, 30m"),
    ],
    ids=[
        "bad_flag",
        "unknown_setting",
        "open_to_the_world",
        "unwritable_data_dir",
        "missing_config",
        "no_service",
        "bad_time",
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    arguments: list[str], environment: dict[str, str], said: str
) -> None:
    done = run("-m", "collector", *arguments, **environment)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
