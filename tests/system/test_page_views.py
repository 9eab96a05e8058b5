"""The page's views in a real browser, over the real service and a real MLflow."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Locator, Page, async_playwright, expect

from tests.collector.api.test_page import CHROMIUM, CHROMIUM_ARGUMENTS, VIEWS, check_readable
from tests.support.layout_shift import MAX_SHIFT, shift_of, watch_shifts
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export, all_spans, trace_ids_of
from tests.support.sidespan import Sidespan
from tests.support.timing import patient, within
from tests.system.test_index import held, send, started, until

pytestmark = pytest.mark.slow
EVIL = '<img src=x onerror="window.owned=true">'


@pytest.fixture(scope="module")
def house(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A service with agents' traces, a run with metrics, another beside it, and a trace of that run."""
    folder = tmp_path_factory.mktemp("views")
    name = f"views-{folder.name}"
    id = mlflow_server.create_experiment(name)
    service = Sidespan(data_dir=folder / "data", mlflow_url=mlflow_server.url)
    started(service)
    runs = []
    import mlflow  # it takes seconds, which every process of the tests would wait for

    client = mlflow.MlflowClient(mlflow_server.url)
    for number in range(2):
        run = client.create_run(id, run_name=f"trial {number}")
        runs.append(run.info.run_id)
        client.log_param(runs[-1], "depth", number)
        for step in range(20):
            client.log_metric(runs[-1], "loss", 1 / (step + 1 + number), step=step)
        client.set_terminated(runs[-1])
    for number in range(60):
        failing = number % 6 == 0
        request = agent_export("pydantic_ai_v5_tool_error.binpb" if failing else "benchmark_trace.binpb")
        for span in all_spans(request):
            span.attributes.add(key="sidespan.session.id").value.string_value = f"chat/{number % 3}"
            span.start_time_unix_nano -= number * 60 * 10**9
            span.end_time_unix_nano -= number * 60 * 10**9
        if number == 0:
            root = all_spans(request)[0]
            root.attributes.add(key="annotations.0.annotation.name").value.string_value = "helpful"
            root.attributes.add(key="annotations.0.annotation.score").value.double_value = 0.25
        headers = {"x_mlflow_run_id": runs[0]} if number == 0 else {}
        send(service, request, x_mlflow_experiment_id=id, **headers)
        if number == 0:
            first = next(iter(trace_ids_of(request))).hex()
    until(lambda: held(service)[0] == 60, service=service)
    service.wait_delivered(60)
    yield {"service": service, "id": id, "name": name, "runs": runs, "failed": first}
    service.kill()


@asynccontextmanager
async def opened(service: Sidespan, path: str, **context: Any) -> AsyncIterator[Page]:
    """The page; afterwards no script may have failed and no other host been asked."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        try:
            tab = await browser.new_page(**context)
            asked: list[str] = []
            trouble: list[str] = []
            tab.on("request", lambda request: asked.append(request.url))
            tab.on("pageerror", lambda error: trouble.append(str(error)))
            tab.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
            await tab.goto(f"{service.url}/-/{path}")
            yield tab
            assert all(address.startswith(service.url) for address in asked)
            assert [text for text in trouble if "status of" not in text] == []
        finally:
            await browser.close()


async def has_address(tab: Page, *parts: str) -> None:
    """Until its address holds each of them: a browser tells of a new one a moment later."""
    await expect(tab).to_have_url(re.compile("".join(f"(?=.*{re.escape(part)})" for part in parts)))


async def test_the_overview_shows_totals_charts_and_what_stands_out(house: dict[str, Any]) -> None:
    async with opened(house["service"], "#/") as tab:
        await expect(tab.locator(".numbers > li").first).to_contain_text("60")
        await expect(tab.locator(".numbers")).to_contain_text("17 %")
        await expect(tab.locator(".chart canvas")).to_have_count(6)
        await expect(tab.get_by_role("img", name="Traces. Latest")).to_be_visible()
        tools = tab.get_by_role("region", name="Tools", exact=True)
        await expect(tools.locator("tbody tr")).to_have_count(2)
        await expect(tab.get_by_role("region", name="Errors", exact=True)).to_contain_text("unreachable")
        await expect(tab.get_by_role("region", name="Scores", exact=True)).to_contain_text("helpful")
        await tab.select_option("#range", "-1h")
        await expect(tab.locator(".numbers > li").first).to_contain_text("60")
        await has_address(tab, "since=-1h")
        await tab.locator(".numbers").get_by_role("link", name="17 %").click()
        await expect(tab.locator("tbody tr")).to_have_count(10)
        await has_address(tab, "status=ERROR")


async def test_traces_are_filtered_sorted_and_paged_and_the_address_says_how(house: dict[str, Any]) -> None:
    service = house["service"]
    async with opened(service, f"#/traces?experiment_name={house['name']}") as tab:
        await expect(tab.locator("tbody tr")).to_have_count(50)
        await tab.click("#next-page")
        await expect(tab.locator("tbody tr")).to_have_count(10)
        await tab.click("text=First page")
        await expect(tab.locator("tbody tr")).to_have_count(50)
        await tab.click("#sort-cost")
        await expect(tab.locator("th[aria-sort=descending]")).to_contain_text("Cost")
        await tab.select_option("#status", "ERROR")
        await expect(tab.locator("tbody tr")).to_have_count(10)
        await tab.fill("#filter-tool", "search_docs")
        await tab.press("#filter-tool", "Enter")
        await expect(tab.locator("tbody tr")).to_have_count(10)
        await has_address(tab, "tool=search_docs", "status=ERROR", "sort=-cost")
        link = tab.get_by_role("link", name="CSV")
        async with tab.expect_download() as download:
            await link.click()
        text = (await (await download.value).path()).read_text()
        assert len(text.strip().splitlines()) == 11
        await tab.fill("#filter-score", "helpful<0.5")
        await tab.press("#filter-score", "Enter")
        await expect(tab.locator("tbody tr")).to_have_count(1)
        await expect(tab.locator("tbody tr")).to_contain_text("helpful 0.25")
        await tab.fill("#filter-tool", EVIL)
        await tab.press("#filter-tool", "Enter")
        await expect(tab.locator(".empty")).to_contain_text("No traces match")
        assert await tab.evaluate("window.owned") is None
    async with opened(service, "#/traces?sort=beauty") as tab:
        await expect(tab.locator("#message")).to_contain_text("Must be one of")


async def test_a_trace_is_drawn_with_its_critical_path_and_leads_to_its_session(
    house: dict[str, Any],
) -> None:
    async with opened(house["service"], f"#/trace/{house['failed']}") as tab:
        await expect(tab.locator(".waterfall .row")).to_have_count(5)
        await expect(tab.locator(".waterfall .row.critical")).not_to_have_count(0)
        await expect(tab.locator(".own-time")).to_contain_text("LLM")
        await expect(tab.get_by_role("region", name="Scores", exact=True)).to_contain_text("helpful 0.25")
        await tab.get_by_role("link", name="chat/0").click()
        await expect(tab.locator("#view h2")).to_have_text("chat/0")
        await expect(tab.locator(".turn")).to_have_count(20)
        await expect(tab.locator(".message.user").first).to_be_visible(timeout=60_000)


async def test_sessions_are_listed_with_their_turns(house: dict[str, Any]) -> None:
    async with opened(house["service"], "#/sessions") as tab:
        await expect(tab.locator("tbody tr")).to_have_count(3)
        await expect(tab.locator("tbody tr").first).to_contain_text("20")


async def test_runs_have_charts_and_stand_side_by_side(house: dict[str, Any]) -> None:
    async with opened(house["service"], f"#/runs?experiment_id={house['id']}") as tab:
        await expect(tab.locator("tbody tr")).to_have_count(2)
        for box in await tab.locator("input.mark").all():
            await box.check()
        await tab.click("#compare")
        await expect(tab.locator(".chart canvas")).to_have_count(1)
        await expect(tab.locator(".u-legend")).to_contain_text("trial 0")
        table = tab.get_by_role("region", name="Comparison")
        await expect(table).to_contain_text("depth")
        await tab.get_by_role("link", name="trial 0").click()
        await expect(tab.locator(".figures")).to_contain_text("FINISHED")
        await expect(tab.locator(".chart canvas")).to_have_count(1)
        await tab.locator(".figures").get_by_role("link", name="1", exact=True).click()
        await expect(tab.locator("tbody tr")).to_have_count(1)


async def test_nothing_moves_while_views_of_runs_come(house: dict[str, Any]) -> None:
    service, runs = house["service"], house["runs"]
    views = {
        f"#/runs?experiment_id={house['id']}": ("tbody tr",),
        f"#/run/{runs[0]}": (".chart canvas", "tbody tr"),
        f"#/compare?run_id={runs[0]}&run_id={runs[1]}": (".chart canvas", "tbody tr"),
    }
    async with opened(service, "#/traces") as tab:
        await watch_shifts(tab)
        for view, signs in views.items():
            assert await shift_of(tab, f"{service.url}/-/{view}", signs) < MAX_SHIFT, view


async def test_the_overview_follows_what_comes_in_and_an_empty_one_says_what_to_do(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    started(sidespan)
    async with opened(sidespan, "#/") as tab:
        await expect(tab.locator(".empty")).to_contain_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={sidespan.url}")
        for path, told in (("traces", "No traces yet"), ("sessions", "session.id")):
            await tab.evaluate(f"location.hash = '#/{path}'")
            await expect(tab.locator(".empty")).to_contain_text(told)
        await tab.evaluate("location.hash = '#/'")
        await expect(tab.locator(".empty")).to_be_visible()
        sent = itertools.count(1)

        @patient
        async def follows_soon() -> None:
            number = next(sent)
            with within(10, processes=sidespan.processes()):
                await asyncio.to_thread(send, sidespan, agent_export(), x_mlflow_experiment_id=experiment_id)
                await expect(tab.locator(".numbers > li").first).to_contain_text(str(number), timeout=60_000)

        await follows_soon()


async def test_a_dead_letter_is_sent_again_from_the_page(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    sidespan.environment = {"SIDESPAN_DELIVERY__UNKNOWN_RUN": "dead-letter"}
    started(sidespan)
    await asyncio.to_thread(
        send, sidespan, agent_export(), x_mlflow_experiment_id=experiment_id, x_mlflow_run_id="0" * 32
    )
    async with opened(sidespan, "#/health") as tab:
        await expect(tab.locator("#letters")).to_contain_text("unknown_run")
        await tab.get_by_role("button", name="Send dead letter 1 again").click()
        await expect(tab.locator("#letters-message")).to_contain_text("back in the queue")
        # MLflow still doesn't know the run, so it comes back under a new number
        await expect(tab.get_by_role("button", name="Send dead letter 2 again")).to_be_visible()


async def test_a_view_whose_service_is_gone_says_so_and_keeps_what_it_shows(
    mlflow_server: MlflowServer, sidespan: Sidespan, experiment_id: str
) -> None:
    started(sidespan)
    await asyncio.to_thread(send, sidespan, agent_export(), x_mlflow_experiment_id=experiment_id)
    until(lambda: held(sidespan)[0] == 1, service=sidespan)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        tab = await browser.new_page()
        await tab.goto(f"{sidespan.url}/-/#/traces")
        await expect(tab.locator("tbody tr")).to_have_count(1)
        await asyncio.to_thread(sidespan.kill)
        await expect(tab.locator("#message")).to_contain_text("can't be reached")
        await expect(tab.locator("tbody tr")).to_have_count(1)
        await asyncio.to_thread(sidespan.start)
        await expect(tab.locator("#message")).to_have_text("")
        await browser.close()


@pytest.mark.parametrize("look", VIEWS.values(), ids=VIEWS.keys())
async def test_every_view_is_readable_in_every_look(house: dict[str, Any], look: dict[str, Any]) -> None:
    runs = house["runs"]
    views = {
        "#/": ".chart canvas",
        "#/traces": "tbody tr",
        "#/sessions": "tbody tr",
        f"#/trace/{house['failed']}": ".waterfall .row",
        "#/session/chat%2F1": ".message.user",
        f"#/runs?experiment_id={house['id']}": "tbody tr",
        f"#/run/{runs[0]}": ".chart canvas",
        f"#/compare?run_id={runs[0]}&run_id={runs[1]}": ".chart canvas",
    }
    async with opened(house["service"], "#/", **look) as tab:
        for view, sign in views.items():
            await tab.evaluate(f"location.hash = {view!r}")
            await expect(tab.locator(sign).first).to_be_visible(timeout=60_000)
            await expect(tab.locator("#message")).to_have_text("")
            await check_readable(tab)


def part_of(request: Any, *chosen: Any) -> Any:
    """The export with these spans only."""
    part = type(request)()
    part.CopyFrom(request)
    scope = part.resource_spans[0].scope_spans[0]
    del scope.spans[:]
    scope.spans.extend(chosen)
    return part


async def test_a_running_trace_grows_and_keeps_what_is_open_and_in_sight(house: dict[str, Any]) -> None:
    service, request = house["service"], agent_export()
    *others, root = sorted(all_spans(request), key=lambda span: not span.parent_span_id)
    [trace_id] = trace_ids_of(request)
    many = [type(root)() for _ in range(60)]
    for number, span in enumerate(many):
        span.CopyFrom(others[0])
        span.span_id = (number + 1).to_bytes(8, "big")
        span.name = f"step {number}"
        span.start_time_unix_nano += number * 1000
    send(service, part_of(request, *many), x_mlflow_experiment_id=house["id"])
    until(lambda: held(service)[1] > 60, service=service)
    async with opened(service, f"#/trace/{trace_id.hex()}", viewport={"width": 1300, "height": 600}) as tab:
        await expect(tab.get_by_text("The root span has not arrived")).to_be_visible()
        await tab.locator(".waterfall").evaluate("box => { box.scrollTop = 1100; }")
        step = tab.locator(f"#span-{many[40].span_id.hex()}")
        await step.click()
        await expect(tab.locator(".panel h3")).to_contain_text("step 40")
        before = await offset_of(step)
        await asyncio.to_thread(
            send, service, part_of(request, *others, root), x_mlflow_experiment_id=house["id"]
        )
        await expect(tab.locator(".figures")).to_contain_text("66")
        await expect(tab.get_by_text("The root span has not arrived")).to_have_count(0)
        await expect(tab.locator(".panel h3")).to_contain_text("step 40")
        await expect(step).to_have_attribute("aria-selected", "true")
        assert abs(before - await offset_of(step)) < 3


async def offset_of(row: Locator) -> float:
    """How far a row stands beneath the top of its tree."""
    return float(
        await row.evaluate(
            "row => row.getBoundingClientRect().top - row.parentElement.getBoundingClientRect().top"
        )
    )


async def test_a_new_trace_is_in_the_list_without_a_poll(house: dict[str, Any]) -> None:
    async with opened(house["service"], f"#/traces?experiment_name={house['name']}&user=live") as tab:
        await expect(tab.get_by_text("No traces match.")).to_be_visible()
        # the interval at which views are drawn anew, put off
        await tab.evaluate("for (let id = 0; id < 1e4; id += 1) clearTimeout(id)")
        request = agent_export()
        for span in all_spans(request):
            span.attributes.add(key="user.id").value.string_value = "live"
        headers = {"x_mlflow_experiment_id": house["id"]}
        await asyncio.to_thread(send, house["service"], request, **headers)
        await expect(tab.locator("tbody tr")).to_have_count(1)
