"""Sessions, traces and their content in a real browser: of agents, and of senders who would do harm."""

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect

from tests.support.conversations import have_conversation, large_trace, message, model_call, picture
from tests.support.otlp import agent_export, all_spans, trace_ids_of
from tests.support.sidespan import Sidespan
from tests.support.timing import Late, patient
from tests.system.test_index import NOWHERE, held, send, started, until
from tests.system.test_page_lists import AXE, OUTSIDE, SERIOUS
from tests.system.test_page_views import opened

pytestmark = pytest.mark.slow
EVIL = '<img src=x onerror="window.owned=true"><script>window.owned=true</script>'
HOSTILE = f"""# Hi {EVIL}

[run](javascript:window.owned=true) [page](data:text/html,<script>alert(1)</script>) [file](file:///etc/passwd)
[ok](https://example.com/a?b=c) [mail](mailto:a@example.com) ![pixel](https://example.com/pixel.png)

<iframe src="https://example.com"></iframe> <b onclick="window.owned=true">bold</b>
"""
SPANS = 10_000
FRAMES = 200
MAX_FRAME_MILLISECONDS = 16.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A service whose MLflow is away: what it has been sent waits in the journal, and is read there."""
    service = Sidespan(data_dir=tmp_path_factory.mktemp("conversation") / "data", mlflow_url=NOWHERE)
    started(service)
    headers = {"x-mlflow-experiment-id": "1"}
    asyncio.run(have_conversation(service.url, headers, session="chat/1"))
    asked = message(
        "user",
        HOSTILE,
        {"type": "blob", "mime_type": "image/png", "modality": "image", "content": picture()},
        {"type": "uri", "uri": "https://example.com/cat.png", "modality": "image"},
        {"type": "uri", "uri": "javascript:window.owned=true", "modality": "image"},
    )
    call = {
        "type": "tool_call",
        "id": "x",
        "name": EVIL,
        "arguments": {EVIL: EVIL, "n": 12345678901234567890},
    }
    answered = message("assistant", {"type": "reasoning", "content": EVIL}, HOSTILE, "word " * 4000, call)
    sent = {
        "failed": agent_export("pydantic_ai_v5_tool_error.binpb"),
        "retried": agent_export("pydantic_ai_v5_tool_retry.binpb"),
        "evil": model_call([message("system", EVIL), asked], [answered], session=EVIL, name=EVIL),
        "large": large_trace(SPANS),
    }
    for request in sent.values():
        send(service, request, x_mlflow_experiment_id="1")
    until(lambda: held(service)[0] == 7, service=service, seconds=120)
    span = next(each for each in all_spans(sent["failed"]) if "search_docs" in each.name).span_id.hex()
    yield {
        "service": service,
        "span": span,
        **{name: next(iter(trace_ids_of(each))).hex() for name, each in sent.items()},
    }
    service.kill()


async def test_a_session_of_an_agent_reads_as_a_conversation(place: dict[str, Any]) -> None:
    async with opened(place["service"], "#/session/chat%2F1") as tab:
        turns = tab.locator(".turn")
        await expect(turns).to_have_count(3)
        first = turns.nth(0)
        await expect(first.locator(".message.user")).to_contain_text("What is the weather in Paris?")
        await expect(first.locator(".message.assistant")).to_have_count(2)
        await expect(first.locator("strong")).to_have_text("sunny")
        await expect(first.locator(".markdown li")).to_have_count(2)
        await expect(first.locator("aside")).to_contain_text("Tool calls")
        await expect(first.locator("aside")).to_contain_text("$")
        call = first.locator(".call")
        await expect(call.get_by_text("celsius").first).not_to_be_visible()
        await call.locator("summary").first.click()
        await expect(call.get_by_role("group", name="Arguments")).to_contain_text('"Paris"')
        await expect(call.get_by_role("group", name="Result")).to_contain_text("celsius: 21")
        await expect(turns.nth(1).locator(".markdown td")).to_have_count(4)
        await expect(turns.nth(1).locator(".message.user")).to_have_count(1)
        await expect(turns.nth(2).locator(".markdown pre")).to_contain_text("import weather")
        await call.get_by_role("link", name="Open span").click()
        await expect(tab.locator(".panel h3")).to_contain_text("weather")
        await expect(tab.locator(".panel").get_by_role("group", name="Input")).to_contain_text('"Paris"')


async def test_hostile_content_is_text_and_asks_no_other_host(place: dict[str, Any]) -> None:
    async with opened(place["service"], f"#/trace/{place['evil']}?view=conversation") as tab:
        user = tab.locator(".message.user")
        await expect(user).to_contain_text(EVIL)
        await expect(user).to_contain_text('<b onclick="window.owned=true">bold</b>')
        await check_harmless(tab)
        image = user.locator("figure img")
        assert await image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 48
        await tab.locator(".reasoning summary").click()
        await tab.locator(".call summary").first.click()
        await expect(tab.locator(".call .tree")).to_contain_text("12345678901234567890")
        await tab.get_by_role("button", name="Show all 20,000 characters").click()
        await check_harmless(tab)
        await tab.get_by_role("tab", name="Spans", exact=True).click()
        await tab.locator(".waterfall .row").click()
        for name in ("Attributes", "Events", "Raw", "Content"):
            await tab.get_by_role("tab", name=name).click()
            await check_harmless(tab)
        await tab.evaluate(f"location.hash = '#/session/' + encodeURIComponent({EVIL!r})")
        await expect(tab.locator("#view h2")).to_have_text(EVIL)
        await expect(tab.locator(".message.user")).to_contain_text(EVIL)
        await check_harmless(tab)


async def check_harmless(tab: Page) -> None:
    """No element came from the text, every link leads to the web or to a mail address, and nothing ran."""
    assert await tab.evaluate("window.owned") is None
    assert (
        await tab.locator(
            "#view :is(iframe, script, object, embed, form:not(.compare form), b[onclick])"
        ).count()
        == 0
    )
    images = await tab.locator("#view img").evaluate_all("all => all.map(each => each.getAttribute('src'))")
    assert all(source.startswith("data:image/png;base64,") for source in images)
    links = await tab.locator("#view a").evaluate_all(
        "all => all.map(each => [each.getAttribute('href'), each.rel, each.target])"
    )
    elsewhere = [link for link in links if not link[0].startswith(("#/", "../"))]
    assert all(href.startswith(("https://example.com/", "mailto:")) for href, _, _ in elsewhere)
    assert all("noopener" in rel and target == "_blank" for _, rel, target in elsewhere)


async def test_the_tree_of_spans_is_walked_by_keyboard(place: dict[str, Any]) -> None:
    async with opened(place["service"], f"#/trace/{place['failed']}") as tab:
        tree = tab.get_by_role("tree")
        await tree.focus()
        active = tab.locator(".waterfall .row.active")
        await expect(active).to_contain_text("invoke_agent")
        await tab.keyboard.press("ArrowDown")
        await expect(active).to_have_attribute("aria-level", "2")
        assert await tree.get_attribute("aria-activedescendant") == await active.get_attribute("id")
        await tab.keyboard.press("Enter")
        panel = tab.locator(".panel")
        await expect(panel.locator("h3")).to_contain_text("chat gpt-4o")
        await expect(panel.locator(".message.user")).to_contain_text("umbrella")
        await expect(active).to_have_attribute("aria-selected", "true")
        await tab.keyboard.press("End")
        await tab.keyboard.press("Enter")
        await expect(panel.locator(".failure").first).to_contain_text("RuntimeError")
        await tab.keyboard.press("Escape")
        await expect(panel).to_have_count(0)
        await expect(tree).to_be_focused()
        await tab.keyboard.press("ArrowLeft")
        await expect(active).to_contain_text("invoke_agent")
        await tab.keyboard.press("ArrowLeft")
        await expect(tab.locator(".waterfall .row")).to_have_count(1)
        await expect(active).to_have_attribute("aria-expanded", "false")
        await tab.keyboard.press("ArrowRight")
        await expect(tab.locator(".waterfall .row")).to_have_count(5)


async def test_a_span_shows_all_that_it_says_and_its_address_opens_it(place: dict[str, Any]) -> None:
    async with opened(place["service"], f"#/trace/{place['failed']}") as tab:
        await tab.locator(".waterfall .row.TOOL.failed").click()
        panel = tab.locator(".panel")
        await panel.get_by_text("Stack trace").click()
        await expect(panel.locator(".stack")).to_contain_text("RuntimeError: document index unreachable")
        await expect(panel.get_by_role("group", name="Input")).to_contain_text("umbrella policy")
        await panel.get_by_role("tab", name="Content").press("ArrowRight")
        await expect(panel.get_by_role("tab", name="Attributes")).to_be_focused()
        await expect(panel).to_contain_text("gen_ai.tool.name")
        await panel.get_by_role("tab", name="Events").click()
        await panel.get_by_text("exception", exact=True).click()
        await expect(panel).to_contain_text("exception.stacktrace")
        await panel.get_by_role("tab", name="Raw").click()
        await expect(panel.get_by_role("group", name="The span as JSON")).to_contain_text("start_unix_ns")
        await tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await panel.get_by_role("button", name="Copy JSON").click()
        copied = await tab.evaluate("navigator.clipboard.readText().then(JSON.parse)")
        assert copied["attributes"]["gen_ai.tool.name"] == "search_docs"
        address = tab.url
        await tab.goto("about:blank")
        await tab.goto(address)
        await expect(panel.locator("h3")).to_contain_text("search_docs")


async def test_two_traces_stand_side_by_side(place: dict[str, Any]) -> None:
    async with opened(place["service"], f"#/trace/{place['failed']}") as tab:
        await tab.locator("details.compare summary").click()
        await tab.get_by_label("The other trace's id").fill(place["retried"])
        await tab.keyboard.press("Enter")
        figures = tab.get_by_role("region", name="Differences")
        await expect(figures.locator("tr", has_text="Spans")).to_contain_text("+1 (+20 %)")
        rows = tab.locator(".aligned .row")
        await expect(rows).to_have_count(6)
        await expect(rows.last).to_contain_text("only in B")
        await tab.get_by_role("tab", name="Conversation").click()
        await expect(tab.locator(".beside .message.user")).to_have_count(2)


async def test_of_ten_thousand_spans_only_those_in_sight_are_drawn(place: dict[str, Any]) -> None:
    async with opened(place["service"], f"#/trace/{place['large']}") as tab:
        rows = tab.locator(".waterfall .row")
        await expect(rows.first).to_contain_text("root", timeout=60_000)
        assert await rows.count() < 100
        await tab.get_by_role("tree").focus()
        await tab.keyboard.press("End")
        await expect(tab.locator(".waterfall .row.active")).to_contain_text(f"{SPANS - 1}")
        await expect(tab.locator(".waterfall .row.active")).to_be_in_viewport()
        assert await rows.count() < 100
        await tab.keyboard.press("Enter")
        await expect(tab.locator(".panel h3")).to_contain_text(f"{SPANS - 1}")
        address = tab.url
        await tab.goto("about:blank")
        await tab.goto(address)
        await expect(tab.locator(".waterfall .row.selected")).to_be_in_viewport(timeout=60_000)


@patient
async def test_ten_thousand_spans_scroll_at_sixty_frames_a_second(place: dict[str, Any]) -> None:
    """By the processor time of the page's thread for each frame: that of a clock is also others' work."""
    async with opened(place["service"], f"#/trace/{place['large']}") as tab:
        await expect(tab.locator(".waterfall .row").first).to_be_visible(timeout=60_000)
        metrics = await tab.context.new_cdp_session(tab)
        await metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = await seconds_of(metrics)
        reached = await tab.locator(".waterfall").evaluate(
            """async (box, frames) => {
              for (let frame = 0; frame < frames; frame += 1) {
                await new Promise(requestAnimationFrame);
                box.scrollTop += 700;
              }
              return box.scrollTop;
            }""",
            FRAMES,
        )
        took = (await seconds_of(metrics) - before) * 1000 / FRAMES
        assert reached > 100_000
        if took >= MAX_FRAME_MILLISECONDS:
            raise Late(f"a frame took {took:.1f} ms of the processor")


async def seconds_of(metrics: Any) -> float:
    """What the page's thread has worked, drawing included."""
    told = await metrics.send("Performance.getMetrics")
    return float({each["name"]: each["value"] for each in told["metrics"]}["TaskDuration"])


WIDTHS = (360, 768, 1280, 1920)


def views_of(place: dict[str, Any]) -> dict[str, str]:
    """Each view, and what shows that all of it is there."""
    evil = quote(EVIL, safe="")
    return {
        "#/session/chat%2F1": ".message.user",
        f"#/session/{evil}": ".message.user",
        f"#/trace/{place['failed']}": ".waterfall .row",
        f"#/trace/{place['failed']}?span={place['span']}": ".panel .failure",
        f"#/trace/{place['evil']}?view=conversation": ".message.user",
        f"#/beside?a={place['failed']}&b={place['retried']}": ".aligned .row",
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_axe_finds_nothing_serious_where_content_is_shown(place: dict[str, Any], theme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not here: make lint installs it where npm is")
    async with opened(place["service"], "#/", color_scheme=theme) as tab:
        await tab.evaluate(AXE.read_text())
        for view, sign in views_of(place).items():
            await tab.evaluate(f"location.hash = {view!r}")
            await expect(tab.locator(sign).first).to_be_visible(timeout=20_000)
            assert await tab.evaluate(SERIOUS) == [], view


@pytest.mark.parametrize("width", WIDTHS)
async def test_content_fits_any_width(place: dict[str, Any], width: int) -> None:
    async with opened(place["service"], "#/", viewport={"width": width, "height": 900}) as tab:
        for view, sign in views_of(place).items():
            await tab.evaluate(f"location.hash = {view!r}")
            await expect(tab.locator(sign).first).to_be_visible(timeout=20_000)
            assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
            assert await tab.evaluate(OUTSIDE) == [], view
