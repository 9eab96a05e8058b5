"""MLflow's page in a browser: with a run and a trace in it, nothing it asks for fails but what is denied."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.proxy.populate import call
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export, trace_ids_of
from tests.support.proxied import proxied, upstream_at

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)
# what the page asks for by itself although the default policy denies it, and why that is right
DENIED_ON_PURPOSE = {
    r"/ajax-api/3\.0/mlflow/ui-telemetry": "reports to MLflow's makers",
    r"/ajax-api/3\.0/mlflow/assistant/.*": "runs commands on MLflow's host",
    r"/ajax-api/2\.0/mlflow/gateway-proxy": "forwards to addresses that the caller names",
    r"/ajax-api/2\.0/mlflow/users/current": "MLflow without sign-in has no users",
}
# the browser writes lines of its own: for each failed request, which the table above covers, and on layout
OWN_LINES = re.compile(r"Failed to load resource|Warning:|DevTools|ResizeObserver loop completed")


def _fill_run(server: MlflowServer, experiment_id: str, run_id: str) -> None:
    """A metric with a history, and a file."""
    for step in range(5):
        metric = {"run_id": run_id, "key": "loss", "value": 1 / (step + 1), "timestamp": step, "step": step}
        call(server.url, "POST", "/api/2.0/mlflow/runs/log-metric", metric)
    path = f"/api/2.0/mlflow-artifacts/artifacts/{experiment_id}/{run_id}/artifacts/note.txt"
    call(server.url, "PUT", path, b"a file of the run")


@pytest.mark.slow
async def test_mlflows_page_shows_runs_metrics_files_and_traces_and_only_what_is_denied_fails(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    from playwright.async_api import ConsoleMessage, Response, async_playwright

    experiment_id = mlflow_server.create_experiment("a page full of things")
    run_id = mlflow_server.create_run(experiment_id)
    _fill_run(mlflow_server, experiment_id, run_id)
    otlp = agent_export()
    (trace_id,) = (id.hex() for id in trace_ids_of(otlp))
    failed: list[str] = []
    said: list[str] = []
    proxy = proxied(upstream_at(mlflow_server.url))
    async with proxy as (url, _), async_playwright() as play:
        async with (
            aiohttp.ClientSession() as client,
            client.post(
                f"{mlflow_server.url}/v1/traces",
                data=otlp.SerializeToString(),
                headers={
                    "content-type": "application/x-protobuf",
                    "x-mlflow-experiment-id": experiment_id,
                },
            ) as answer,
        ):
            assert answer.status == 200

        def note_failure(answer: Response) -> None:
            if answer.status >= 400 and answer.url.startswith(url):
                failed.append(urlsplit(answer.url).path)

        def note_error(message: ConsoleMessage) -> None:
            if message.type == "error" and not OWN_LINES.search(message.text):
                said.append(message.text)

        browser = await play.chromium.launch(executable_path="/usr/bin/chromium", args=[*ARGUMENTS])
        page = await browser.new_page(viewport={"width": 1400, "height": 900})
        page.on("response", note_failure)
        page.on("console", note_error)
        page.on("pageerror", lambda error: said.append(str(error)))

        await page.goto(f"{url}/#/experiments")
        await page.get_by_text("a page full of things").first.wait_for()
        await page.goto(f"{url}/#/experiments/{experiment_id}/runs")
        await page.locator("a[href*='/runs/']").first.wait_for()
        await page.goto(f"{url}/#/experiments/{experiment_id}/traces")
        await page.get_by_text("What is the weather in Paris").first.wait_for()
        await page.screenshot(path=tmp_path / "traces.png")
        await page.goto(f"{url}/#/experiments/{experiment_id}/traces?selectedEvaluationId=tr-{trace_id}")
        await page.get_by_text("get_weather").first.wait_for()
        await page.screenshot(path=tmp_path / "trace.png")
        run = f"{url}/#/experiments/{experiment_id}/runs/{run_id}"
        await page.goto(f"{run}/model-metrics")
        await page.get_by_text("loss").first.wait_for()
        await page.locator(".js-plotly-plot").first.wait_for()
        await page.goto(f"{run}/artifacts")
        await page.get_by_text("note.txt").first.click()
        await page.get_by_text("a file of the run").first.wait_for()
        await page.screenshot(path=tmp_path / "artifact.png")
        made = await page.evaluate(
            """async () => {
                const answer = await fetch('ajax-api/2.0/mlflow/experiments/create', {
                    method: 'POST', headers: {'content-type': 'application/json'},
                    body: JSON.stringify({name: 'created from the page'})});
                return [answer.status, Object.keys(await answer.json())];
            }"""
        )
        foreign = await browser.new_page()
        await foreign.goto("data:text/html,<p>elsewhere</p>")
        refused = await foreign.evaluate(
            """async (url) => { try {
                await fetch(url, {method: 'POST', mode: 'no-cors', body: '{"name": "from elsewhere"}'});
            } catch (error) {} return document.location.protocol; }""",
            f"{url}/api/2.0/mlflow/experiments/create",
        )
        await browser.close()
    assert made == [200, ["experiment_id"]]
    assert refused == "data:"
    unexpected = {path for path in failed if not any(re.fullmatch(row, path) for row in DENIED_ON_PURPOSE)}
    assert unexpected == set()
    assert said == []
