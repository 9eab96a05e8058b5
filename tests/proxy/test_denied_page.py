"""MLflow's own page under `read-only` and for one client: what is denied is told where the user sees it."""

from pathlib import Path

import aiohttp
import pytest

from proxy.policy import ANONYMOUS, build_policy
from tests.support.mlflow_server import MlflowServer
from tests.support.proxied import proxied, tokens_for, upstream_at

ARGUMENTS = ("--no-sandbox", "--disable-gpu")


@pytest.mark.slow
async def test_a_reader_sees_runs_and_is_told_that_he_may_not_delete(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    from playwright.async_api import async_playwright

    experiment_id = mlflow_server.create_experiment("to be read only")
    run_id = mlflow_server.create_run(experiment_id)
    policy = build_policy(roles={}, clients={ANONYMOUS: ["read-only"]})
    async with proxied(upstream_at(mlflow_server.url), policy=policy) as (url, _), async_playwright() as play:
        browser = await play.chromium.launch(executable_path="/usr/bin/chromium", args=[*ARGUMENTS])
        page = await browser.new_page(viewport={"width": 1400, "height": 900})
        await page.goto(f"{url}/#/experiments/{experiment_id}/runs/{run_id}")
        await page.get_by_test_id("overflow-menu-trigger").first.click()
        await page.get_by_role("menuitem", name="Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        told = page.get_by_text("may not delete runs")
        await told.first.wait_for(timeout=60_000)
        await page.screenshot(path=tmp_path / "denied.png")
        await browser.close()


@pytest.mark.slow
async def test_a_browser_is_asked_for_the_token_and_then_shows_only_what_is_the_clients(
    mlflow_server: MlflowServer, tmp_path: Path
) -> None:
    from playwright.async_api import Response, async_playwright

    from proxy.policy import RuleText

    mlflow_server.create_run(mlflow_server.create_experiment("page-a/visible"))
    mlflow_server.create_experiment("page-b/hidden")
    policy = build_policy(
        roles={"a": [RuleText(preset="standard", experiments=("page-a/*",))]}, clients={"anna": ["a"]}
    )
    tokens = tokens_for(tmp_path / "tokens.json", "anna")
    through = proxied(upstream_at(mlflow_server.url), policy=policy, tokens_file=tmp_path / "tokens.json")
    async with through as (url, _), async_playwright() as play:
        browser = await play.chromium.launch(executable_path="/usr/bin/chromium", args=[*ARGUMENTS])
        async with aiohttp.ClientSession() as nobody, nobody.get(url) as answer:
            assert answer.status == 401
            first, *_ = answer.headers.getall("www-authenticate")
            assert first.startswith('Basic realm="sidespan"'), "browsers look at the first"
        context = await browser.new_context(http_credentials={"username": "anna", "password": tokens["anna"]})
        page = await context.new_page()
        broken: list[str] = []

        def note(response: Response) -> None:
            if response.status >= 500:
                broken.append(f"{response.status} {response.url}")

        page.on("response", note)
        await page.goto(f"{url}/#/experiments")
        await page.get_by_text("page-a/visible").first.wait_for()
        assert await page.get_by_text("page-b/hidden").count() == 0
        await page.get_by_text("page-a/visible").first.click()
        await page.wait_for_timeout(2000)
        await page.screenshot(path=tmp_path / "own.png")
        await browser.close()
    assert broken == []
