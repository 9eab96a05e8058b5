"""The page's views of many traces, in a real browser over the real service: names, keys, widths, themes.

MLflow isn't there: what these views show comes from the index.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.support.layout_shift import MAX_SHIFT, watch_shifts
from tests.support.otlp import agent_export, all_spans
from tests.support.sidespan import Sidespan
from tests.system.test_index import NOWHERE, held, send, started, until
from tests.system.test_page_views import EVIL, has_address, opened

pytestmark = pytest.mark.slow
AXE = Path(__file__).parents[1] / "page/node_modules/axe-core/axe.min.js"
HOUR_NS = 3_600 * 10**9
# an agent fails more often since yesterday
TRACES_BEFORE, TRACES_NOW = 45, 60
NAMES = {
    "evil_markup": EVIL,
    "evil_markdown": "[click](javascript:alert(1)) ![x](http://a.test/x.png) <script>owned=1</script>",
    "evil_direction": "\u202egnp.exe\u2066",
    "long": "a name that goes on and on " * 12 + "x" * 300,
}
LISTS = {
    "#/": ".chart canvas",
    "#/traces": "tbody tr",
    "#/sessions": "tbody tr",
    "#/errors": "tbody tr",
    "#/tools": "tbody tr",
    "#/models": "tbody tr",
    "#/compare": "tbody tr",
    "#/compare?kind=agent&since=-7d": "#compare-a",
    "#/alerts": ".empty",
    "#/health": "#parts .good",
    "#/traces?name=nothing": ".empty",
}
WIDTHS = (360, 768, 1280, 1920)
OUTSIDE = """() => [...document.querySelectorAll('.table')].filter(table => table.checkVisibility() &&
  table.scrollWidth > table.clientWidth + 1).map(table => table.getAttribute('aria-label'))"""
SERIOUS = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
  .filter(({impact}) => ['serious', 'critical'].includes(impact))
  .map(({id, nodes}) => [id, nodes.slice(0, 3).map(({html}) => html)])"""
# numbers that are links: what they say, what they are called, and where they lead
LINKS = """links => links.map(link => [link.textContent, link.closest('[data-label]')?.dataset.label
  ?? link.closest('li').querySelector('.quiet').textContent, link.getAttribute('href')])"""
COUNT_ROWS = {"Traces", "Sessions"}
SHIFTS = """new PerformanceObserver(list => list.getEntries().forEach(
  entry => { window.shifted = (window.shifted || 0) + (entry.hadRecentInput ? 0 : entry.value); }
)).observe({type: 'layout-shift', buffered: true})"""


def named_after(request: Any, name: str) -> None:
    """Every name that a sender may choose, in a trace."""
    for span in all_spans(request):
        span.name = name
        span.status.message = name
        for key in ("user.id", "sidespan.session.id", "gen_ai.agent.name"):
            span.attributes.add(key=key).value.string_value = name
        for attribute in span.attributes:
            if attribute.key in ("gen_ai.tool.name", "gen_ai.request.model", "agent_name"):
                attribute.value.string_value = name


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidespan]:
    found = Sidespan(data_dir=tmp_path_factory.mktemp("lists") / "data", mlflow_url=NOWHERE)
    started(found)
    for number in range(TRACES_BEFORE + TRACES_NOW):
        is_before = number < TRACES_BEFORE
        failing = number % (15 if is_before else 2) == 0
        request = agent_export("pydantic_ai_v5_tool_error.binpb" if failing else "benchmark_trace.binpb")
        ago = 30 * HOUR_NS if is_before else (number - TRACES_BEFORE) * HOUR_NS // 4
        for span in all_spans(request):
            span.attributes.add(key="sidespan.session.id").value.string_value = f"chat-{number % 9}"
            span.attributes.add(key="user.id").value.string_value = f"user-{number % 4}"
            span.start_time_unix_nano -= ago
            span.end_time_unix_nano -= ago
        send(found, request, x_mlflow_experiment_id="1")
    for name in NAMES.values():
        request = agent_export("pydantic_ai_v5_tool_error.binpb")
        named_after(request, name)
        send(found, request, x_mlflow_experiment_id="1")
    whole = TRACES_BEFORE + TRACES_NOW + len(NAMES)
    until(lambda: held(found)[0] == whole, service=found)
    yield found
    found.kill()


async def shown(tab: Page, view: str, sign: str) -> None:
    await tab.evaluate(f"location.hash = {view!r}")
    await expect(tab.locator(sign).first).to_be_visible(timeout=60_000)
    await expect(tab.locator("#message")).to_have_text("")


async def test_what_senders_call_things_is_text_in_every_view(service: Sidespan) -> None:
    async with opened(service, "#/") as tab:
        for view, sign in LISTS.items():
            await shown(tab, view, sign)
            assert await tab.locator("#view img, #view script, #view iframe, dialog img").count() == 0
            hrefs = await tab.locator("#view a").evaluate_all("links => links.map(link => link.protocol)")
            assert set(hrefs) <= {"http:"}, view
        await shown(tab, "#/traces", "tbody tr")
        await expect(tab.locator("tbody").get_by_text(EVIL).first).to_be_visible()
        await tab.keyboard.press("Control+k")
        await tab.keyboard.type("<img")
        await expect(tab.locator("#palette-rows li").first).to_contain_text(EVIL)
        assert await tab.evaluate("window.owned") is None


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_axe_finds_nothing_serious_in_any_view(service: Sidespan, theme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not here: make lint installs it where npm is")
    async with opened(service, "#/", color_scheme=theme) as tab:
        await tab.evaluate(AXE.read_text())
        for view, sign in LISTS.items():
            await shown(tab, view, sign)
            assert await tab.evaluate(SERIOUS) == [], view
        for key, dialog in (("Control+k", "#palette"), ("?", "#help"), ("s", "#save")):
            await tab.keyboard.press(key)
            await expect(tab.locator(dialog)).to_be_visible()
            assert await tab.evaluate(SERIOUS) == [], dialog
            await tab.keyboard.press("Escape")
            await expect(tab.locator(dialog)).to_be_hidden()


@pytest.mark.parametrize("width", WIDTHS)
async def test_no_column_is_cut_and_nothing_sticks_out(service: Sidespan, width: int) -> None:
    async with opened(service, "#/", viewport={"width": width, "height": 900}) as tab:
        for view, sign in LISTS.items():
            await shown(tab, view, sign)
            assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            assert await tab.evaluate(OUTSIDE) == [], view
        await shown(tab, "#/traces", "tbody tr")
        box, name = (tab.locator(f"tbody td:first-child {each}").first for each in (".mark", "a"))
        (left, right) = (await box.bounding_box(), await name.bounding_box())
        assert left and right and left["x"] + left["width"] <= right["x"], "a box stands before the name"
        await shown(tab, "#/", ".numbers > li")
        rows = await tab.locator(".numbers > li").evaluate_all(
            "tiles => tiles.map(tile => Math.round(tile.getBoundingClientRect().top))"
        )
        assert len({rows.count(top) for top in rows}) == 1, "the same number of tiles in each row"


async def test_nothing_moves_while_the_overview_comes(service: Sidespan) -> None:
    async with opened(service, "#/traces", viewport={"width": 1280, "height": 900}) as tab:
        await expect(tab.locator("tbody tr").first).to_be_visible()
        await watch_shifts(tab)
        await tab.reload()
        await expect(tab.locator("tbody tr").first).to_be_visible()
        await tab.evaluate("window.shifted = 0")
        await shown(tab, "#/", ".chart canvas")
        await expect(tab.get_by_role("region", name="Errors", exact=True)).to_contain_text("unreachable")
        assert await tab.evaluate("window.shifted") < 2 * MAX_SHIFT


async def test_rows_are_gone_through_opened_and_left_by_keys(service: Sidespan) -> None:
    async with opened(service, "#/traces?sort=-duration&agent=weather*") as tab:
        links = tab.locator("tbody td:first-child a")
        await expect(links.first).to_be_visible()
        for key, place in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
            await tab.keyboard.press(key)
            await expect(links.nth(place)).to_be_focused()
        await tab.keyboard.press("Enter")
        await expect(tab.locator(".waterfall")).to_be_visible()
        await tab.keyboard.press("Escape")
        await expect(links.first).to_be_visible()
        await has_address(tab, "sort=-duration")
        await tab.keyboard.press("?")
        await expect(tab.locator("#help")).to_contain_text("Next row")
        await tab.keyboard.press("Escape")
        await expect(tab.locator("#help")).to_be_hidden()
        await tab.keyboard.press("g")
        await tab.keyboard.press("e")
        await expect(tab.get_by_role("heading", name="Errors")).to_be_visible()


async def test_a_view_is_saved_and_found_by_its_name_or_by_what_it_leads_to(service: Sidespan) -> None:
    async with opened(service, "#/traces?status=ERROR&since=-7d") as tab:
        await expect(tab.locator("tbody tr").first).to_be_visible()
        await tab.keyboard.press("s")
        await tab.fill("#save-name", "what failed")
        await tab.keyboard.press("Enter")
        await expect(tab.locator("#save")).to_be_hidden()
        await tab.reload()
        await tab.evaluate("location.hash = '#/'")
        await expect(tab.locator(".numbers")).to_be_visible()
        await tab.keyboard.press("Control+k")
        await tab.keyboard.type("failed what")
        await expect(tab.locator("#palette-rows li")).to_have_count(1)
        await tab.keyboard.press("Enter")
        await expect(tab.locator("tbody tr").first).to_be_visible()
        await has_address(tab, "status=ERROR")
        await tab.keyboard.press("Control+k")
        await tab.keyboard.type("chat-3")
        await expect(tab.locator("#palette-rows li").first).to_contain_text("session")
        await tab.keyboard.press("Enter")
        await expect(tab.locator("#view h2").first).to_contain_text("chat-3")


async def test_a_part_of_a_chart_is_a_filter(service: Sidespan) -> None:
    async with opened(service, "#/") as tab:
        over = tab.locator(".chart .u-over").first
        await expect(over).to_be_visible()
        await over.scroll_into_view_if_needed()
        box = await over.bounding_box()
        assert box
        middle = box["y"] + box["height"] / 2
        await tab.mouse.move(box["x"] + box["width"] * 0.2, middle)
        await tab.mouse.down()
        await tab.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=5)
        await tab.mouse.up()
        await expect(tab.locator("#range")).to_have_value(re.compile(r"^\d{10}$"))
        await expect(tab).to_have_url(re.compile(r"since=\d{10}&until=\d{10}"))
        await expect(tab.locator(".numbers > li").first).not_to_contain_text(f"{TRACES_NOW + len(NAMES)}")


async def test_the_overview_says_what_changed_and_every_number_leads_to_its_rows(service: Sidespan) -> None:
    async with opened(service, "#/") as tab:
        changed = tab.locator(".changed")
        await expect(changed).to_contain_text("Error rate")
        await expect(changed.locator("li", has_text="Error rate").locator(".driver").first).to_be_visible()
        await expect(tab.locator(".numbers > li").first).to_be_visible()
        await expect(tab.locator(".numbers > li:not(:has(a.value))")).to_have_count(0)
        models = tab.get_by_role("region", name="Models", exact=True)
        await expect(models.locator("td.number").first).to_be_visible()
        await expect(models.locator("td.number:not(:has(a))")).to_have_count(0)
        errors = tab.get_by_role("region", name="Errors", exact=True)
        await expect(errors.locator("thead")).to_contain_text("First seen")
        await expect(errors.locator("polyline").first).to_be_attached()
        await errors.get_by_role("link", name="unreachable").first.click()
        await expect(tab.locator("tbody tr").first).to_be_visible()
        await has_address(tab, "error=", "#/traces")


async def test_numbers_of_the_overview_lead_to_rows_that_count_the_same(service: Sidespan) -> None:
    async with opened(service, "#/") as tab:
        await expect(tab.locator(".driver").first).to_be_visible()
        for name in ("Users", "Errors"):
            region = tab.get_by_role("region", name=name, exact=True)
            await expect(region.locator("td.number").first).to_be_visible()
        for place in (".numbers .value", ".numbers .number-link", "td.number a", ".driver a.number-link"):
            links = await tab.locator(f"#view {place}").evaluate_all(LINKS)
            assert links, place
            for said, label, address in links:
                rows = await rows_behind(service, tab, address)
                some = rows > 0 or not re.search("[1-9]", said)
                assert rows == int(said) if label in COUNT_ROWS else some, (label, said, address, rows)
        assert await tab.locator("#view td.number:not(:has(a))").all_inner_texts() == []
        await expect(tab.locator(".driver:not(:has(a.number-link + a.number-link))")).to_have_count(0)


async def test_a_view_that_cannot_be_shown_says_what_to_do(service: Sidespan) -> None:
    async with opened(service, "#/traces?sort=nonsense") as tab:
        await expect(tab.locator("#message")).to_contain_text("Must be one of")
        await expect(tab.get_by_role("button", name="Try again")).to_be_visible()
        await tab.get_by_role("link", name="Without filters").click()
        await expect(tab.locator("tbody tr").first).to_be_visible()
        await tab.evaluate(f"location.hash = '#/session/{'x' * 9}'")
        await tab.get_by_role("link", name="To the list").click()
        await expect(tab.get_by_role("link", name="chat-3")).to_be_visible()


async def rows_behind(service: Sidespan, tab: Page, address: str) -> int:
    """How many rows the list has to which a link leads."""
    name, _, query = address.removeprefix("#/").partition("?")
    path = "traces/errors" if name == "errors" else name
    answer = await (await tab.request.get(f"{service.url}/-/{path}?{query}&limit=1000")).json()
    return len(answer[name])


async def test_two_times_are_compared_with_how_sure_it_is(service: Sidespan) -> None:
    async with opened(service, "#/compare") as tab:
        table = tab.get_by_role("region", name="Comparison")
        rate = table.locator("tbody tr", has_text="Error rate")
        await expect(rate).to_contain_text("More than chance")
        await expect(rate).to_contain_text("▲")
        await rate.get_by_role("link").first.click()
        await expect(tab.locator("tbody tr")).to_have_count(TRACES_BEFORE)
    async with opened(service, "#/compare") as tab:
        await expect(tab.locator("tbody tr").first).to_be_visible()
        await tab.select_option("#compare-kind", "user")
        await expect(tab.locator(".empty")).to_contain_text("Choose both sides")
        await tab.select_option("#compare-a", "user-0")
        await expect(tab.locator("#compare-a")).to_have_value("user-0")
        await tab.select_option("#compare-b", "user-2")
        rate = tab.get_by_role("region", name="Comparison").locator("tbody tr", has_text="Error rate")
        await expect(rate).to_contain_text("Could be chance")
        await has_address(tab, "a.user=user-0", "b.user=user-2")
        await tab.select_option("#compare-by", "tool")
        await expect(tab.get_by_role("region", name="By tool")).to_contain_text("search_docs")


async def test_errors_tools_and_models_are_lists_that_lead_to_their_traces(service: Sidespan) -> None:
    async with opened(service, "#/errors?since=-7d") as tab:
        first = tab.locator("tbody tr", has_text="unreachable").first
        await expect(first).to_contain_text("ago")
        await expect(first.locator("time").first).to_have_attribute("title", re.compile(".+"))
        await tab.click("#sort-first")
        await expect(tab.locator("th[aria-sort=descending]")).to_contain_text("First seen")
        for view, name in (("tools", "search_docs"), ("models", "gpt-4o")):
            await shown(tab, f"#/{view}?since=-7d", "tbody tr")
            await tab.locator("tbody").get_by_role("link", name=name, exact=True).click()
            await expect(tab.get_by_role("heading", name="Traces")).to_be_visible()
            await expect(tab.locator("tbody tr").first).to_be_visible()
