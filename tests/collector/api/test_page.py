"""The page at /-/ in a real browser, against canned answers over a real socket."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from playwright.async_api import Page, async_playwright, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from collector.answers.trace_source import FoundTrace, Unanswered
from collector.api import page
from collector.api.app import starlette_routes
from collector.api.errors import HANDLERS
from collector.api.traces import ROUTES as TRACE_ROUTES
from collector.spans.conventions import ObservationKind
from collector.spans.facts import export_facts
from tests.support.answers import answers_with, own_app_with, traces_from
from tests.support.otlp import all_spans
from tests.support.serve import serve
from tests.support.spans import TRACE_ID, payload, spanfacts

RUN_ID, EVIL_ID, PARTIAL_ID = "1" * 32, "2" * 32, "3" * 32
EVIL = '<img src=x onerror="window.owned=true"><script>window.owned=true</script>'
# a busy machine may need longer than playwright's five seconds
expect.set_options(timeout=30_000)
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

READY = {
    "ready": True,
    "version": "0.1.0",
    "parts": {
        "journal": {"ok": True, "reason": "", "pending_spans": 1234, "journal_bytes": 5242880},
        "mlflow": {"ok": True, "reason": "answered in 12 ms", "last_answer_unix_ns": 1795209471669455646},
    },
}


BARS = """bars => bars.map(bar => {
  const [inner, track] = [bar.getBoundingClientRect(), bar.parentElement.getBoundingClientRect()];
  return [inner.left - track.left, inner.width, track.width];
})"""


def letter(number: int, **others: Any) -> dict[str, Any]:
    return {
        "id": number,
        "parked_unix_ns": 1795209471669455646,
        "reason": "refused",
        "message": "MLflow answered 400: bad span",
        "span_count": 2,
        "route": {"experiment_id": "7"},
        "trace_ids": [RUN_ID],
    } | others


def found_traces() -> dict[str, FoundTrace | Unanswered]:
    return {
        RUN_ID: FoundTrace(
            trace_id=RUN_ID,
            spans=list(export_facts(payload("pydantic_ai_v5_tool_retry"))),
            experiment_id="7",
            experiment_name="weather",
        ),
        EVIL_ID: FoundTrace(
            trace_id=EVIL_ID,
            spans=[
                spanfacts(
                    "a",
                    name=EVIL,
                    agent=EVIL,
                    is_error=True,
                    error_type=EVIL,
                    error_message=EVIL,
                    session=EVIL,
                ),
                spanfacts("b", "a", ObservationKind.LLM, model=EVIL),
                spanfacts("c", "a", ObservationKind.TOOL, tool=EVIL),
            ],
            experiment_id=EVIL,
            experiment_name=EVIL,
            incomplete=EVIL,
        ),
        PARTIAL_ID: Unanswered(reason="no connection"),
    }


@dataclass
class Service:
    """What the page asks, with answers that a test may change."""

    ready: Any = field(default_factory=lambda: READY)
    letters: list[dict[str, Any]] = field(default_factory=list)
    retried: list[Any] = field(default_factory=list)
    retry_status: int = 200
    deep: str = ""

    async def read(self, trace_id: str) -> FoundTrace | Unanswered | None:
        return found_traces().get(trace_id)

    async def export(self, trace_id: str) -> ExportTraceServiceRequest | Unanswered | None:
        if trace_id != RUN_ID:
            return None
        request = payload("pydantic_ai_v5_tool_retry")
        for span in all_spans(request):
            span.trace_id = bytes.fromhex(RUN_ID)
            if self.deep:
                span.attributes.add(key="deep").value.string_value = self.deep
        return request

    def app(self) -> Starlette:
        async def ready(_: Request) -> Response:
            return JSONResponse(self.ready, status_code=200 if self.ready.get("ready") else 503)

        async def letters(_: Request) -> Response:
            return JSONResponse({"dead_letters": self.letters, "total": len(self.letters)})

        async def retry(request: Request) -> Response:
            self.retried.append(await request.json())
            if self.retry_status != 200:
                return JSONResponse({"error": {"message": EVIL}}, status_code=self.retry_status)
            self.letters = [each for each in self.letters if each["id"] not in self.retried[-1]["ids"]]
            return JSONResponse({"retried": 1})

        async def elsewhere(_: Request) -> Response:
            return PlainTextResponse("elsewhere")

        return Starlette(
            routes=[
                *starlette_routes(answers_with(traces=traces_from(self)), (*page.ROUTES, *TRACE_ROUTES)),
                Route("/-/ready", ready),
                Route("/-/dead-letters", letters),
                Route("/-/dead-letters/retry", retry, methods=["POST"]),
                Route("/-/metrics", elsewhere),
                Route("/", elsewhere),
            ],
            exception_handlers=dict(HANDLERS),
        )


SCRIPTS = sorted(name for name in page.STATIC if name.endswith(".js") and not name.startswith("vendor/"))
# as npm has them, but for the name by which hooks.js calls preact.js
VENDORED = {
    "uplot.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",  # uPlot 1.6.32
    "preact.js": "bdcbd9abdf2c77c5c45326eab42191e949222d479d0d5f69467387a77040cb55",  # preact 11.2.0
    "hooks.js": "e862ab2973aa6455eaa0f77c5d832d2157d6be59a17c8ba546550a575b58c6b4",
    "htm.js": "ab33dd3f38059b9be4d5f5350128eefb2356639c4e0bbe9d9e8b3ba75847e9e4",  # htm 3.1.1
    "marked.js": "5371fea86fd0656b4fc7bea7c94c663109d82789b69433eeee78d42895aa44de",  # marked 18.2.1
}
LICENSED = {"uplot", "preact", "htm", "marked"}
# all that a browser loads for all views together
MAX_BYTES = 250_000


@asynccontextmanager
async def opened(service: Service, path: str = "/-/", **context: Any) -> AsyncIterator[Page]:
    """The page in a browser; afterwards no script may have failed and no other host been asked."""
    async with serve(service.app()) as url, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        try:
            tab = await browser.new_page(**context)
            asked: list[str] = []
            trouble: list[str] = []
            tab.on("request", lambda request: asked.append(request.url))
            tab.on("pageerror", lambda error: trouble.append(str(error)))
            tab.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
            await tab.goto(url + path)
            yield tab
            assert all(address.startswith(url + "/-/") for address in asked)
            # a browser reports every 4xx and 5xx answer as an error of its own
            assert [text for text in trouble if "status of" not in text] == []
        finally:
            await browser.close()


def test_the_page_and_its_files_are_served_with_a_strict_policy() -> None:
    client = TestClient(own_app_with(page.ROUTES))
    for path, kind in (
        ("/-/", "text/html"),
        ("/-/static/page.css", "text/css"),
        *((f"/-/static/{name}", "text/javascript") for name in SCRIPTS),
        *((f"/-/static/vendor/{name}", "text/javascript") for name in VENDORED),
        *((f"/-/static/vendor/{name}.LICENSE.txt", "text/plain") for name in LICENSED),
        ("/-/static/vendor/uplot.css", "text/css"),
        ("/-/static/icon.svg", "image/svg+xml"),
    ):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get("/-/static/__init__.py").status_code == 404
    assert client.get("/-/static/..%2f__init__.py").status_code == 404
    assert client.get("/-/static/vendor/preact.d.ts").status_code == 404


def test_the_page_names_no_other_host_and_sets_no_html() -> None:
    client = TestClient(own_app_with(page.ROUTES))
    document, *scripts = (client.get(path).text for path in ("/-/", *(f"/-/static/{n}" for n in SCRIPTS)))
    for text in (document, *scripts, client.get("/-/static/page.css").text):
        assert not re.search(r"https?://|(src|href)=\"//|url\(", text)
    for script in scripts:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    assert not re.search(r"<style|style=|\son\w+=|<script>", document)


def test_libraries_are_those_that_npm_has() -> None:
    client = TestClient(own_app_with(page.ROUTES))
    for name, checksum in VENDORED.items():
        text = client.get(f"/-/static/vendor/{name}").content.replace(b'from"./preact.js"', b'from"preact"')
        assert hashlib.sha256(text).hexdigest() == checksum, name
    assert {name for name in page.STATIC if name.startswith("vendor/") and name.endswith(".js")} == {
        f"vendor/{name}" for name in VENDORED
    }


def test_the_page_is_small_and_sent_once() -> None:
    client = TestClient(own_app_with(page.ROUTES))
    sent = 0
    for name in ("", *(f"static/{name}" for name in page.STATIC if not name.endswith(".txt"))):
        answer = client.get(f"/-/{name}", headers={"Accept-Encoding": "gzip"})
        assert answer.headers["Content-Encoding"] == "gzip" and answer.headers["Vary"] == "Accept-Encoding"
        sent += int(answer.headers["Content-Length"])
        again = client.get(f"/-/{name}", headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get(f"/-/{name}", headers={"Accept-Encoding": "identity"}).content == answer.content
    assert sent < MAX_BYTES


@pytest.mark.slow
async def test_health_is_shown_part_by_part_with_numbers_and_follows_changes() -> None:
    service = Service()
    async with opened(service, "/-/#/health") as tab:
        await expect(tab.locator("#state")).to_have_text("Ready")
        await expect(tab.locator("#version")).to_have_text("0.1.0")
        journal = tab.locator("#parts > li", has_text="Journal")
        await expect(journal).to_contain_text("pending spans")
        await expect(journal).to_contain_text("1,234")
        await expect(journal).to_contain_text("5.0 MiB")
        service.ready = {
            "ready": False,
            "version": "0.1.0",
            "parts": {"mlflow": {"ok": False, "reason": "MLflow does not answer"}},
        }
        await expect(tab.locator("#state")).to_have_text("Not ready")
        await expect(tab.locator("#parts")).to_contain_text("MLflow does not answer")
        service.ready = {"oops": 1}
        await expect(tab.locator("#state")).to_have_text("Service can't be reached")


@pytest.mark.slow
async def test_a_trace_is_looked_up_by_keyboard_and_drawn() -> None:
    async with opened(Service()) as tab:
        await tab.keyboard.press("Tab")
        await expect(tab.locator(".skip")).to_be_focused()
        await tab.keyboard.press("/")
        await expect(tab.locator("#trace-id")).to_be_focused()
        await tab.keyboard.type(f"tr-{RUN_ID}")
        await tab.keyboard.press("Enter")
        await expect(tab.locator(".title h3")).to_have_text("invoke_agent weather")
        figures = tab.locator(".figures")
        for told in ("13.3 ms", "761→134", "$0.0032", "0 (+1 recovered)", "weather-agent 1.4.2"):
            await expect(figures).to_contain_text(told)
        await expect(tab.locator(".waterfall .row")).to_have_count(6)
        await expect(tab.locator(".waterfall .warn")).to_contain_text("Recovered retry")
        await expect(tab.get_by_role("link", name="Open in MLflow")).to_have_attribute(
            "href", f"../#/experiments/7/traces?selectedEvaluationId=tr-{RUN_ID}"
        )
        await expect(tab).to_have_url(re.compile(f"#/trace/tr-{RUN_ID}"))
        await expect(tab.locator(".own-time")).to_contain_text("on the critical path")
        bars = await tab.locator(".waterfall .bar").evaluate_all(BARS)
        assert bars[0][1] == pytest.approx(bars[0][2], abs=1)
        starts = [left for left, _, _ in bars]
        assert starts == sorted(starts) and starts[1] > starts[0]
        await tab.locator(".waterfall .row", has_text="chat gpt-4o").first.click()
        await expect(tab.locator(".panel")).to_contain_text("Cost source")
        await expect(tab.locator(".panel .message.user")).to_contain_text("weather")


@pytest.mark.slow
async def test_a_link_to_a_trace_opens_it_and_wrong_ids_tell_what_to_do() -> None:
    async with opened(Service(), f"/-/#trace={RUN_ID}") as tab:
        await expect(tab.locator(".title h3")).to_have_text("invoke_agent weather")
        for given, told in (
            ("f" * 32, "Check the id"),
            ("nonsense", "32 hex digits"),
            (PARTIAL_ID, "Try again in a moment"),
        ):
            await tab.fill("#trace-id", given)
            await tab.click("text=Look up")
            await expect(tab.locator("#message")).to_contain_text(told)
            # nothing of the trace before, only what to do
            await expect(tab.locator("#view")).to_have_text("Try again To the list")


@pytest.mark.slow
async def test_what_traces_and_letters_say_is_text_and_nothing_else() -> None:
    service = Service(
        ready={"ready": True, "version": EVIL, "parts": {EVIL: {"ok": False, "reason": EVIL, EVIL: EVIL}}},
        letters=[letter(1, reason=EVIL, message=EVIL, route={EVIL: EVIL}, trace_ids=[EVIL])],
        retry_status=400,
    )
    async with opened(service, f"/-/#trace={EVIL_ID}") as tab:
        await expect(tab.locator(".title h3")).to_have_text(EVIL)
        await expect(tab.locator(".waterfall")).to_contain_text(EVIL)
        await tab.evaluate("location.hash = '#/health'")
        await expect(tab.locator("#letters")).to_contain_text(EVIL)
        await tab.click("text=Send again")
        await expect(tab.locator("#letters-message")).to_contain_text(EVIL)
        assert await tab.locator("main img, main script, img[src=x]").count() == 0
        assert await tab.evaluate("window.owned") is None


@pytest.mark.slow
async def test_dead_letters_are_listed_and_sent_again() -> None:
    service = Service(letters=[letter(1), letter(2), letter(3, span_count=1)])
    async with opened(service, "/-/#/health") as tab:
        await expect(tab.locator("#letters > li")).to_have_count(3)
        await expect(tab.locator("#letters-count")).to_have_text("(3)")
        await expect(tab.locator("#letters > li").first).to_contain_text("2 spans · experiment id 7")
        await tab.get_by_role("button", name="Send dead letter 2 again").click()
        await expect(tab.locator("#letters > li")).to_have_count(2)
        await expect(tab.locator("#letters-message")).to_contain_text("back in the queue")
        assert service.retried == [{"ids": [2]}]
        await tab.get_by_role("button", name="Send all again").click()
        await expect(tab.locator("#letters")).to_contain_text("nothing was refused")
        assert service.retried == [{"ids": [2]}, {"ids": [1, 3]}]
        await expect(tab.locator("#retry-all")).to_be_hidden()


@pytest.mark.slow
async def test_a_letters_trace_is_one_step_away_and_refreshing_keeps_the_focus() -> None:
    service = Service(letters=[letter(1)])
    async with opened(service, "/-/#/health") as tab:
        trace = tab.get_by_role("button", name=RUN_ID)
        await trace.focus()
        service.letters = [letter(9, message="a newer one"), *service.letters]
        await expect(tab.locator("#letters > li")).to_have_count(2)
        await expect(tab.locator(f"#trace-1-{RUN_ID}")).to_be_focused()
        await tab.keyboard.press("Enter")
        await expect(tab.locator(".title h3")).to_have_text("invoke_agent weather")


@pytest.mark.slow
async def test_keys_act_from_the_moment_at_which_a_dialog_closes() -> None:
    """Its field keeps the focus until the page is drawn again."""
    async with opened(Service(), "/-/#/health") as tab:
        for key, dialog in (("Control+k", "#palette"), ("s", "#save")):
            await tab.keyboard.press(key)
            await expect(tab.locator(f"{dialog} input").first).to_be_focused()
            await tab.evaluate(
                """dialog => {
                  document.querySelector(dialog).close();
                  const pressed = new KeyboardEvent("keydown", {key: "?", bubbles: true, cancelable: true});
                  document.activeElement.dispatchEvent(pressed);
                }""",
                dialog,
            )
            await expect(tab.locator("#help")).to_be_visible(timeout=5_000)
            await tab.keyboard.press("Escape")
            await expect(tab.locator("#help")).to_be_hidden()


VIEWS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}
CONTRASTS = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = (colour) => {
    const [red, green, blue] = colour.match(/[\\d.]+/g).map(Number).map(channel);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return /, 0\\)$/.test(colour) && element.parentElement ? ground(element.parentElement) : colour;
  };
  const told = [...document.querySelectorAll("main *, header *")].filter((element) =>
    element.checkVisibility() && !element.disabled &&
    [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  return told.map((element) => {
    const [over, under] = [light(getComputedStyle(element).color), light(ground(element))];
    return [element.textContent, (Math.max(over, under) + 0.05) / (Math.min(over, under) + 0.05)];
  });
}"""


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
async def test_everything_is_readable_and_nothing_sticks_out(view: dict[str, Any]) -> None:
    service = Service(letters=[letter(1), letter(2)])
    async with opened(service, f"/-/#/trace/{RUN_ID}", **view) as tab:
        await expect(tab.locator(".waterfall .row")).to_have_count(6)
        await check_readable(tab)
        await tab.evaluate("location.hash = '#/health'")
        await expect(tab.locator("#letters > li")).to_have_count(2)
        await check_readable(tab)


async def check_readable(tab: Page) -> None:
    """Nothing sticks out, and every text stands off its ground (WCAG 2.2, 1.4.3)."""
    assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    contrasts = await tab.evaluate(CONTRASTS)
    assert [each for each in contrasts if each[1] < 4.5] == []


@pytest.mark.slow
async def test_ids_that_are_asked_for_are_the_ones_in_the_address() -> None:
    async with opened(Service(), f"/-/#trace={TRACE_ID}") as tab:
        await expect(tab.locator("#trace-id")).to_have_value(TRACE_ID)
        await tab.evaluate(f"location.hash = '/trace/{RUN_ID}'")
        await expect(tab.locator("#trace-id")).to_have_value(RUN_ID)
        await expect(tab.locator(".title h3")).to_have_text("invoke_agent weather")


async def redrawn(tab: Page) -> None:
    """Let the page ask for its view again, as when somebody comes back to it."""
    async with tab.expect_response("**/traces/*max_spans*"):
        await tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(tab.locator("#message")).to_be_empty()


@pytest.mark.slow
async def test_skipping_typing_and_refreshing_keep_the_address_and_what_is_typed() -> None:
    async with opened(Service(), f"/-/#/trace/{RUN_ID}") as tab:
        here = tab.url
        await expect(tab.locator(".waterfall .row")).to_have_count(6)
        await tab.locator(".skip").focus()
        await tab.keyboard.press("Enter")
        await expect(tab.locator("#main")).to_be_focused()
        assert tab.url == here
        await tab.fill("#trace-id", "half of an id")
        await redrawn(tab)
        await expect(tab.locator("#trace-id")).to_have_value("half of an id")
        await tab.keyboard.press("Escape")
        await expect(tab.locator("#trace-id")).not_to_be_focused()
        assert tab.url == here


@pytest.mark.slow
async def test_a_broken_address_says_so_and_the_page_goes_on() -> None:
    async with opened(Service(), "/-/#/trace/100%") as tab:
        await expect(tab.locator("#message")).to_contain_text("32 hex digits")
        await tab.evaluate(f"location.hash = '/trace/{RUN_ID}'")
        await expect(tab.locator(".waterfall .row")).to_have_count(6)


MANY_CHANGES = """() => {
window.EventSource = class extends EventTarget {
  constructor() {
    super();
    setInterval(() => this.dispatchEvent(new Event("trace")), 20);
  }
  close() {}
};
}"""


@pytest.mark.slow
async def test_of_many_changes_the_page_asks_once_at_a_time_and_shows_each_answer() -> None:
    service = Service()
    async with opened(service) as tab:
        at_once, most, asked = 0, 0, 0

        async def slowly(route: Any) -> None:
            nonlocal at_once, most, asked
            at_once, asked = at_once + 1, asked + 1
            most = max(most, at_once)
            await asyncio.sleep(0.5 if asked > 1 else 0)
            at_once -= 1
            await route.continue_()

        await tab.route("**/traces/*max_spans*", slowly)
        await tab.evaluate(MANY_CHANGES)
        await tab.evaluate(f"location.hash = '/trace/{RUN_ID}'")
        await expect(tab.locator(".waterfall .row")).to_have_count(6)
        while asked < 4:
            await asyncio.sleep(0.1)
        assert most == 1


DEEP = "[" * 8000 + "]" * 8000


@pytest.mark.slow
async def test_json_of_thousands_of_levels_opens_level_by_level() -> None:
    service = Service(deep=DEEP)
    async with opened(service, f"/-/#/trace/{RUN_ID}") as tab:
        await tab.locator(".waterfall .row").first.click()
        await tab.get_by_role("tab", name="Attributes").click()
        tree = tab.get_by_role("group", name="deep", exact=True)
        await expect(tree.locator("details")).to_have_count(5)
        await tree.locator("details").last.locator("summary").click()
        await expect(tree.locator("details")).to_have_count(6)
