"""A real MLflow behind the whole service: its Python client and its UI work through our port."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.sidespan import Sidespan

TOUR = """
import json, os, sys, tempfile
from pathlib import Path
import mlflow
from mlflow import MlflowClient

mlflow.set_tracking_uri(sys.argv[1])
client = MlflowClient()
experiment_id = mlflow.create_experiment(sys.argv[2])
mlflow.set_experiment(experiment_id=experiment_id)
out = {"experiment_id": experiment_id}

with mlflow.start_run(run_name="parent") as run:
    mlflow.log_param("depth", 3)
    mlflow.log_metrics({"loss": 0.5, "accuracy": 0.9}, step=1)
    mlflow.log_metric("loss", 0.25, step=2)
    mlflow.set_tag("team", "blue")
    with tempfile.TemporaryDirectory() as folder:
        blob = os.urandom(5_000_000)
        Path(folder, "a b.bin").write_bytes(blob)
        mlflow.log_artifacts(folder, artifact_path="files")
    with mlflow.start_run(nested=True) as child:
        mlflow.log_param("child", "yes")
out["run_id"] = run.info.run_id
found = client.get_run(run.info.run_id)
out["params"], out["metrics"], out["team"] = found.data.params, found.data.metrics, found.data.tags["team"]
out["history"] = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")]
out["children"] = len(client.search_runs([experiment_id], "tags.mlflow.parentRunId = '%s'" % run.info.run_id))
local = client.download_artifacts(run.info.run_id, "files/a b.bin")
out["artifact_same"] = Path(local).read_bytes() == blob

client.create_registered_model(sys.argv[2])
version = client.create_model_version(sys.argv[2], f"runs:/{run.info.run_id}/files", run.info.run_id)
client.set_registered_model_alias(sys.argv[2], "champion", version.version)
out["champion"] = client.get_model_version_by_alias(sys.argv[2], "champion").run_id == run.info.run_id

with mlflow.start_span(name="root") as span:
    span.set_inputs({"q": "hi"})
    with mlflow.start_span(name="inner"):
        pass
mlflow.flush_trace_async_logging()
out["trace_id"] = span.trace_id
import time
for _ in range(100):
    try:
        trace = mlflow.get_trace(span.trace_id)
    except Exception:
        trace = None
    if trace and len(trace.data.spans) == 2:
        break
    time.sleep(0.1)
out["spans"] = sorted(s.name for s in trace.data.spans)
mlflow.log_feedback(trace_id=span.trace_id, name="good", value=True)
out["assessments"] = [a.name for a in mlflow.get_trace(span.trace_id).info.assessments]
out["searched"] = len(mlflow.search_traces(locations=[experiment_id], return_type="list"))

client.delete_run(child.info.run_id)
out["deleted"] = client.get_run(child.info.run_id).info.lifecycle_stage
client.restore_run(child.info.run_id)
client.delete_experiment(experiment_id)
client.restore_experiment(experiment_id)
out["restored"] = client.get_experiment(experiment_id).lifecycle_stage
print(json.dumps(out))
"""


@pytest.mark.slow
def test_mlflows_python_client_does_its_work_through_us(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    service = Sidespan(data_dir=tmp_path / "data", mlflow_url=mlflow_server.url)
    service.start()
    try:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "OTEL_"))}
        done = subprocess.run(
            [sys.executable, "-c", TOUR, service.url, "client tour"],
            capture_output=True,
            text=True,
            timeout=110,
            cwd=tmp_path,
            env=environment | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_MODEL_CATALOG_URI": ""},
            check=False,
        )
    finally:
        service.kill()
    assert done.returncode == 0, done.stderr[-3000:]
    out = json.loads(done.stdout.splitlines()[-1])
    assert out["params"] == {"depth": "3"}
    assert out["metrics"] == {"loss": 0.25, "accuracy": 0.9}
    assert out["history"] == [[1, 0.5], [2, 0.25]]
    assert (out["team"], out["children"], out["artifact_same"], out["champion"]) == ("blue", 1, True, True)
    assert out["spans"] == ["inner", "root"]
    assert (out["assessments"], out["searched"]) == (["good"], 1)
    assert (out["deleted"], out["restored"]) == ("deleted", "active")


# what the UI asks for on its own and the default policy denies on purpose
DENIED_ON_PURPOSE = ("/assistant/", "/gateway-proxy", "/ui-telemetry", "/users/current")


@pytest.mark.slow
async def test_mlflows_ui_works_through_us(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    from playwright.async_api import async_playwright

    service = Sidespan(data_dir=tmp_path / "data", mlflow_url=mlflow_server.url)
    service.start()
    experiment_id = mlflow_server.create_experiment("seen in the ui")
    mlflow_server.create_run(experiment_id)
    failed: list[str] = []
    errors: list[str] = []
    try:
        async with async_playwright() as play:
            browser = await play.chromium.launch(
                executable_path="/usr/bin/chromium",
                args=[
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--disable-sync",
                    "--no-first-run",
                ],
            )
            page = await browser.new_page()
            page.on(
                "response",
                lambda answer: (
                    failed.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
                ),
            )
            page.on("pageerror", lambda error: errors.append(str(error)))
            await page.goto(f"{service.url}/#/experiments")
            await page.get_by_text("seen in the ui").first.wait_for(timeout=30_000)
            made = await page.evaluate(
                """async () => (await fetch('ajax-api/2.0/mlflow/experiments/create', {
                    method: 'POST', headers: {'content-type': 'application/json'},
                    body: JSON.stringify({name: 'made by the page'})})).status"""
            )
            await page.goto(f"{service.url}/#/experiments/{experiment_id}/runs")
            await page.locator("a[href*='/runs/']").first.wait_for(timeout=30_000)
            await page.goto(f"{service.url}/#/experiments/{experiment_id}/traces")
            await page.get_by_role("button", name="Delete").or_(page.get_by_text("Traces")).first.wait_for()
            await page.wait_for_timeout(2000)  # what the view asks for by itself
            await browser.close()
    finally:
        service.kill()
    assert made == 200
    unexpected = [line for line in failed if not any(part in line for part in DENIED_ON_PURPOSE)]
    assert unexpected == []
    assert errors == []
