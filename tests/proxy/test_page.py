"""MLflow's page in a browser: with a run and a trace in it, nothing it asks for fails but what is denied."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export
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
# the browser writes a line of its own for each failed request, which the table above covers
OWN_LINES = re.compile(r"Failed to load resource|Warning:|DevTools")


@pytest.mark.slow
async def test_mlflows_page_shows_runs_and_traces_and_only_what_is_denied_fails(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    from playwright.async_api import ConsoleMessage, Response, async_playwright

    experiment_id = mlflow_server.create_experiment("a page full of things")
    mlflow_server.create_run(experiment_id)
    failed: list[str] = []
    said: list[str] = []
    proxy = proxied(upstream_at(mlflow_server.url))
    async with proxy as (url, _), async_playwright() as play:
        async with (
            aiohttp.ClientSession() as client,
            client.post(
                f"{mlflow_server.url}/v1/traces",
                data=agent_export().SerializeToString(),
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
        await page.wait_for_timeout(8000)
        print(await page.inner_text("body"))
        await page.screenshot(path=tmp_path / "traces.png")
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
