"""Rows that are chosen, charts and comparisons, and views that stay in place while they come."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from playwright.async_api import Request, expect

from tests.support.conversations import have_conversation, put
from tests.support.layout_shift import MAX_SHIFT, shift_of, watch_shifts
from tests.support.otlp import agent_export, all_spans, export
from tests.support.sidespan import Sidespan
from tests.system.test_index import NOWHERE, held, send, started, until
from tests.system.test_page_views import opened

pytestmark = pytest.mark.slow
TRACES = 24
# with the three turns of the session, and a call that is streamed
HELD = TRACES + 3 + 1
SLOW_MODEL = "slow-model"
HOUR_NS = 3_600 * 10**9
# each view that needs no MLflow, and what is there once all of it is
STILL = {
    "#/?since=-7d": (".chart canvas", ".tops .spark polyline"),
    "#/?service=nothing": (".empty",),
    "#/traces": ("tbody tr",),
    "#/traces?name=nothing": (".empty",),
    "#/sessions": ("tbody tr",),
    "#/errors?since=-7d": ("tbody tr", ".spark polyline"),
    "#/tools": ("tbody tr",),
    "#/models": ("tbody tr",),
    "#/compare": ("tbody tr",),
    "#/compare?kind=agent&since=-7d": ("#compare-a",),
    "#/alerts": (".empty",),
    "#/health": ("#parts h3", "#letters li"),
    "#/session/weather%2F1": (".turn:nth-child(3) .message.assistant",),
    "#/trace/{a}": (".waterfall .row",),
    "#/trace/{a}?view=conversation": (".message.assistant",),
    "#/beside?a={a}&b={b}": ("[aria-label=Differences] tbody tr",),
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
    send(found, streamed_call(), x_mlflow_experiment_id="1")
    until(lambda: held(found)[0] == HELD, service=found)
    yield found
    found.kill()


def streamed_call() -> ExportTraceServiceRequest:
    """A call of SLOW_MODEL of a second, whose first token came after a quarter of it."""
    request = export()
    (span,) = all_spans(request)
    span.start_time_unix_nano -= 10**9
    put(span, {"gen_ai.operation.name": "chat", "gen_ai.request.model": SLOW_MODEL})
    put(span, {"gen_ai.server.time_to_first_token": 0.25})
    return request


async def test_two_rows_are_chosen_by_mouse_or_keys_and_stand_side_by_side(service: Sidespan) -> None:
    async with opened(service, "#/traces?sort=-start") as tab:
        rows = tab.locator("tbody tr")
        await expect(rows).to_have_count(HELD)
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
        await watch_shifts(tab)
        answer = await (await tab.request.get(f"{service.url}/-/traces?session=weather/1")).json()
        a, b, _ = (trace["trace_id"] for trace in answer["traces"])
        for view, signs in STILL.items():
            shift = await shift_of(tab, f"{service.url}/-/{view.format(a=a, b=b)}", signs)
            assert shift < MAX_SHIFT, (view, shift)


async def test_a_view_asks_its_first_question_once(service: Sidespan) -> None:
    async with opened(service, "#/health") as tab:
        for view, path in (("", "traces/overview?"), ("traces", "traces?"), ("errors", "traces/errors?")):
            asked: list[tuple[float, str]] = []

            def note(request: Request, asked: list[tuple[float, str]] = asked) -> None:
                asked.append((time.monotonic(), request.url.rpartition("/-/")[2]))

            tab.on("request", note)
            await tab.goto("about:blank")
            await tab.goto(f"{service.url}/-/#/{view}")
            await expect(tab.locator("tbody tr").first).to_be_visible()
            times = [at for at, each in asked if each.startswith(path)]
            # a live view asks again after five seconds, if it takes that long to be drawn
            assert [at < times[0] + 4 for at in times].count(True) == 1, asked


async def test_the_time_to_the_first_token_is_shown_and_compared(service: Sidespan) -> None:
    async with opened(service, "#/models?since=-7d") as tab:
        row = tab.locator("tbody tr", has_text=SLOW_MODEL)
        await expect(row.locator("[data-label='First token p50']")).to_have_text("250 ms")
        await row.get_by_role("link", name=SLOW_MODEL).click()
        await tab.locator("tbody a[href^='#/trace/']").first.click()
        await tab.locator(".waterfall .row.LLM").first.click()
        fact = tab.locator(".panel .facts div", has_text="First token after")
        await expect(fact).to_contain_text("250 ms")
        await tab.evaluate("location.hash = '#/compare'")
        compared = tab.get_by_role("region", name="Comparison")
        row = compared.locator("tr", has=tab.get_by_role("cell", name="Time to first token p50", exact=True))
        await expect(row).to_contain_text("250 ms")
