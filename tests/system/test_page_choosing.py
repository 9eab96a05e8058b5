"""Rows that are chosen, charts and comparisons, and views that stay in place while they come."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.support.conversations import have_conversation
from tests.support.otlp import agent_export, all_spans
from tests.support.sidespan import Sidespan
from tests.system.test_index import NOWHERE, held, send, started, until
from tests.system.test_page_views import opened

pytestmark = pytest.mark.slow
TRACES = 24
HOUR_NS = 3_600 * 10**9
# what https://web.dev/articles/cls is made of; what follows a click within half a second is left out
SHIFTS = """window.shifted = 0; new PerformanceObserver(list => list.getEntries().forEach(
  entry => { window.shifted += entry.hadRecentInput ? 0 : entry.value; }
)).observe({type: 'layout-shift', buffered: true})"""
MAX_SHIFT = 0.05
# each view, and what is there once all of it is
STILL = {
    "#/?since=-7d": (".chart canvas", ".tops .spark polyline"),
    "#/traces": ("tbody tr",),
    "#/sessions": ("tbody tr",),
    "#/errors?since=-7d": ("tbody tr", ".spark polyline"),
    "#/tools": ("tbody tr",),
    "#/compare": ("tbody tr",),
    "#/health": ("#parts h3", "#letters li"),
    "#/session/weather%2F1": (".turn:nth-child(3) .message.assistant",),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidespan]:
    """Traces of a day, some that failed, and a session; MLflow isn't there."""
    found = Sidespan(data_dir=tmp_path_factory.mktemp("choosing") / "data", mlflow_url=NOWHERE)
    started(found)
    headers = {"x-mlflow-experiment-id": "1"}
    asyncio.run(have_conversation(found.url, headers, session="weather/1"))
    for number in range(TRACES):
        request = agent_export("benchmark_trace.binpb" if number % 4 else "pydantic_ai_v5_tool_error.binpb")
        for span in all_spans(request):
            span.start_time_unix_nano -= (number + 1) * HOUR_NS // 2
            span.end_time_unix_nano -= (number + 1) * HOUR_NS // 2
        send(found, request, x_mlflow_experiment_id="1")
    until(lambda: held(found)[0] == TRACES + 3, service=found)
    yield found
    found.kill()


async def test_two_rows_are_chosen_by_mouse_or_keys_and_stand_side_by_side(service: Sidespan) -> None:
    async with opened(service, "#/traces?sort=-start") as tab:
        rows = tab.locator("tbody tr")
        await expect(rows).to_have_count(TRACES + 3)
        boxes = tab.locator("tbody input.mark")
        await boxes.nth(2).check()
        chosen = tab.locator(".chosen")
        await expect(chosen).to_contain_text("choose another one")
        await tab.keyboard.press("Escape")
        await tab.keyboard.press("j")
        await expect(rows.nth(0).locator("td:first-child a")).to_be_focused()
        await tab.keyboard.press("x")
        await expect(boxes.nth(0)).to_be_checked()
        await expect(chosen).to_contain_text("Two traces")
        await boxes.nth(4).check()
        await expect(boxes.nth(2)).not_to_be_checked()
        ids = [await rows.nth(n).locator("td:first-child a").get_attribute("title") for n in (0, 4)]
        await chosen.get_by_role("link", name="Side by side").click()
        await expect(tab.get_by_role("region", name="Differences")).to_be_visible()
        assert all(f"{side}={id}" in tab.url for side, id in zip("ab", ids, strict=True))


async def test_a_chart_says_its_latest_values_until_somebody_points_at_others(service: Sidespan) -> None:
    async with opened(service, "#/?since=-7d") as tab:
        chart = tab.locator(".chart", has=tab.get_by_text("Cost", exact=True))
        legend = chart.locator(".u-legend")
        await expect(legend).to_contain_text("$")
        await expect(legend).not_to_contain_text("--")
        latest = await legend.inner_text()
        over = chart.locator(".u-over")
        await over.hover(position={"x": 5, "y": 20})
        await expect(legend).not_to_have_text(latest, use_inner_text=True)
        await tab.mouse.move(0, 0)
        await expect(legend).to_have_text(latest, use_inner_text=True)


async def test_dead_letters_are_asked_for_in_their_view_only(service: Sidespan) -> None:
    async with opened(service, "#/traces") as tab:
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url.rpartition("/-/")[2]))
        async with tab.expect_response("**/-/ready"):
            pass
        async with tab.expect_response("**/-/ready"):
            pass
        assert "dead-letters" not in asked
        async with tab.expect_response("**/-/dead-letters"):
            await tab.evaluate("location.hash = '#/health'")
        await expect(tab.locator("#letters")).to_contain_text("nothing was refused")


async def test_means_are_compared_by_their_spread(service: Sidespan) -> None:
    async with opened(service, "#/compare?kind=agent&since=-7d") as tab:
        await expect(tab.locator("#compare-a")).to_be_visible()
        now = "Math.floor(Date.now() / 1000)"
        await tab.evaluate(
            f"location.hash = `#/compare?a.since=${{{now} - 86400 * 2}}&a.until=${{{now} - 3600}}"
            f"&b.since=${{{now} - 86400}}&b.until=${{{now} + 60}}`"
        )
        table = tab.get_by_role("region", name="Comparison")
        row = table.locator("tr", has=tab.get_by_role("cell", name="Tokens a trace", exact=True))
        await expect(row).to_contain_text("Could be chance")
        await expect(row).to_contain_text(" to ")


@pytest.mark.parametrize("width", [768, 1280])
async def test_nothing_moves_while_a_view_comes(service: Sidespan, width: int) -> None:
    async with opened(service, "#/traces", viewport={"width": width, "height": 900}) as tab:
        await tab.add_init_script(SHIFTS)
        for view, signs in STILL.items():
            shift = await shift_of(tab, f"{service.url}/-/{view}", signs)
            assert shift < MAX_SHIFT, (view, shift)


async def shift_of(tab: Page, address: str, signs: tuple[str, ...]) -> float:
    """How far what was there moved, until all of a view is."""
    await tab.goto("about:blank")
    await tab.goto(address)
    for sign in signs:
        await expect(tab.locator(sign).nth(0)).to_be_visible(timeout=60_000)
    await expect(tab.locator("#state")).to_have_text("Ready")
    # entries come after the frame that they are about
    await tab.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)))")
    shifted: Any = await tab.evaluate("window.shifted")
    return float(shifted)
