"""MLflow's own client does everything that can be logged: directly, openly, and under each preset.

One table: a row for each step of the tour, a column for each preset; what passes has the same result as
directly, what doesn't is denied in words that MLflow's client prints.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.policy import ANONYMOUS, build_policy
from tests.support.mlflow_server import MlflowServer
from tests.support.proxied import proxied, upstream_at

ROOT = Path(__file__).parents[2]
PRESETS = ("open-trusted", "open", "standard", "read-only", "no-delete", "ingest-only")
MIB = 1024 * 1024
# from 500 MiB on, MLflow's client sends and reads files in another way where it can
LARGE = 520 * MIB

# 1: passes, 0: is denied
TABLE: dict[str, tuple[int, int, int, int, int, int]] = {
    "create_experiment": (1, 1, 1, 0, 1, 1),
    "get_experiment": (1, 1, 1, 1, 1, 1),
    "tag_experiment": (1, 1, 1, 0, 1, 0),
    "untag_experiment": (1, 1, 1, 0, 0, 0),
    "start_a_run": (1, 1, 1, 0, 1, 0),
    "log_params_metrics_and_tags": (1, 1, 1, 0, 1, 0),
    "untag_the_run": (1, 1, 1, 0, 0, 0),
    "log_a_batch": (1, 1, 1, 0, 1, 0),
    "read_the_run_back": (1, 1, 1, 1, 1, 0),
    "read_a_metrics_history": (1, 1, 1, 1, 1, 0),
    "children_of_a_run": (1, 1, 1, 0, 1, 0),
    "runs_in_parallel": (1, 1, 1, 0, 1, 0),
    "search_runs": (1, 1, 1, 1, 1, 0),
    "search_experiments": (1, 1, 1, 1, 1, 0),
    "a_dataset_of_a_run": (1, 1, 1, 0, 1, 0),
    "system_metrics": (1, 1, 1, 0, 1, 0),
    "write_files": (1, 1, 1, 0, 1, 0),
    "write_a_large_file": (1, 1, 1, 0, 1, 0),
    "list_files": (1, 1, 1, 1, 1, 0),
    "read_files": (1, 1, 1, 1, 1, 0),
    "log_a_model": (1, 1, 1, 0, 1, 0),
    "load_a_model": (1, 1, 1, 1, 1, 0),
    "autolog": (1, 1, 1, 0, 1, 0),
    "register_a_model": (1, 1, 1, 0, 1, 0),
    "find_a_model": (1, 1, 1, 1, 1, 0),
    "a_prompt": (1, 1, 1, 0, 1, 0),
    "trace_a_function": (1, 1, 1, 0, 1, 1),
    "read_a_trace": (1, 1, 1, 1, 1, 0),
    "tag_a_trace": (1, 1, 1, 0, 1, 1),
    "assess_a_trace": (1, 1, 1, 0, 1, 1),
    "search_traces": (1, 1, 1, 1, 1, 0),
    "an_evaluation_dataset": (1, 1, 1, 0, 1, 0),
    "find_an_evaluation_dataset": (1, 1, 1, 1, 1, 0),
    "delete_an_assessment": (1, 1, 1, 0, 0, 0),
    "delete_a_trace": (1, 1, 1, 0, 0, 0),
    "delete_an_evaluation_dataset": (1, 1, 1, 0, 0, 0),
    "delete_a_model": (1, 1, 1, 0, 0, 0),
    "delete_and_restore_a_run": (1, 1, 1, 0, 0, 0),
    "finish_the_run": (1, 1, 1, 0, 1, 0),
    "rename_experiment": (1, 1, 1, 0, 1, 0),
    "delete_and_restore_experiment": (1, 1, 1, 0, 0, 0),
    "an_experiment_with_files_elsewhere": (1, 1, 0, 0, 0, 0),
    "see_the_webhooks": (1, 1, 0, 0, 0, 0),
}


class Guide:
    """A process with MLflow's client that goes on one tour after the other."""

    def __init__(self, log: Path) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OTEL_", "SIDESPAN_"))}
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.proxy.tour"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=kept
                | {
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
                    "MLFLOW_MODEL_CATALOG_URI": "",
                },
            )

    def tour(self, direct: str, through: str, name: str, *, big_bytes: int = MIB) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([direct, through, name, big_bytes]), file=self.process.stdin, flush=True)
        answer = next((line for line in self.process.stdout if line.startswith("{")), "{}")
        found: dict[str, Any] = json.loads(answer)
        assert found, self.log.read_text()[-3000:]
        return found

    def end(self) -> None:
        self.process.communicate(timeout=20)


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guide]:
    made = Guide(tmp_path_factory.mktemp("tour") / "errors")
    yield made
    made.end()


@pytest.fixture(scope="module")
def directly(mlflow_server: MlflowServer, guide: Guide) -> dict[str, Any]:
    found = guide.tour(mlflow_server.url, mlflow_server.url, f"tour direct {os.urandom(3).hex()}")
    assert {name: step for name, step in found.items() if step["outcome"] != "ok"} == {}
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("preset", PRESETS)
async def test_each_step_passes_or_is_denied_as_the_preset_says(
    mlflow_server: MlflowServer, guide: Guide, directly: dict[str, Any], preset: str
) -> None:
    assert set(directly) == set(TABLE), "a row for each step"
    policy = build_policy(roles={}, clients={ANONYMOUS: [preset]})
    name = f"tour {preset} {os.urandom(3).hex()}"
    big = LARGE if preset == "open" else MIB
    async with proxied(upstream_at(mlflow_server.url), policy=policy, max_inspected_bytes=32 * MIB) as (
        url,
        _,
    ):
        found = await asyncio.to_thread(guide.tour, mlflow_server.url, url, name, big_bytes=big)
    expected = {step: "ok" if cells[PRESETS.index(preset)] else "denied" for step, cells in TABLE.items()}
    if expected["trace_a_function"] == "denied":
        expected["trace_a_function"] = "not stored"  # MLflow's client says nothing of it
    wrong = {step: found[step] for step in TABLE if found[step]["outcome"] != expected[step]}
    assert wrong == {}
    for step, outcome in found.items():
        if outcome["outcome"] == "ok":
            direct = json.dumps(directly[step]["result"]).replace(str(MIB), "big")
            said = json.dumps(outcome["result"]).replace(str(big), "big")
            names = (name, next(iter(directly["search_experiments"]["result"])))
            assert said.replace(names[0], "") == direct.replace(names[1], ""), step
        elif outcome["outcome"] == "denied":
            assert "may not" in outcome["message"], step
            assert "PERMISSION_DENIED" in outcome["message"], step
