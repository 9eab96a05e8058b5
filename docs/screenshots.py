"""Takes the README's pictures from a real run: `make run`, then headless Chromium.

python docs/screenshots.py
"""

import asyncio
import io
import random
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.async_api import Browser, ViewportSize, async_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.conversations import have_conversation  # noqa: E402
from tests.support.otlp import agent_export, all_spans  # noqa: E402

# captured runs, and how often each
RUNS = (
    ("benchmark_trace", 6),
    ("pydantic_ai_v5_tool_error", 1),
    ("pydantic_ai_v5_tool_retry", 2),
    ("pydantic_ai_v5_plain", 3),
    ("langchain_openinference", 2),
    ("vercel_ai_v6", 1),
)
IMAGES = ROOT / "docs" / "images"
PORT = "4399"
DAY_NS = 86_400 * 10**9
SIZES = {"phone": (360, 740), "tablet": (768, 1000), "desktop": (1280, 860), "wide": (1920, 1080)}
# one view each, and what is there once it is drawn
VIEWS = (
    ("#/", ".tops tbody tr"),
    ("#/traces", "tbody tr"),
    ("#/sessions", "tbody tr"),
    ("#/session/weather%2F1", ".message.assistant"),
    ("#/trace/{trace_id}", ".waterfall .row"),
    ("#/trace/{trace_id}?view=conversation", ".message.assistant"),
    ("#/errors", "tbody tr"),
    ("#/tools", "tbody tr"),
    ("#/models", "tbody tr"),
    ("#/compare", "tbody tr"),
    ("#/alerts", "#view *"),
    ("#/health", "#parts h3"),
)
# of a sheet of all views: how wide a view is on it, in pixels, and how many stand in a row
SHEETS = {"phone": (240, 6), "tablet": (400, 4), "desktop": (560, 3), "wide": (560, 3)}
COLOURS = 128
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        job = subprocess.Popen(
            [sys.executable, "examples/run.py", "--port", PORT, "--data-dir", directory],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert job.stdout is not None
        try:
            trace_id = _wait(job)
            _feed(f"http://127.0.0.1:{PORT}")
            headers = {"x-mlflow-experiment-name": "agents"}
            asyncio.run(have_conversation(f"http://127.0.0.1:{PORT}", headers, session="weather/1"))
            asyncio.run(_take(f"http://127.0.0.1:{PORT}", trace_id))
        finally:
            job.terminate()
            job.wait()


def _wait(job: subprocess.Popen[str]) -> str:
    trace_id = ""
    assert job.stdout is not None
    for line in job.stdout:
        if found := re.search(r"summary trace ([0-9a-f]{32})", line):
            trace_id = found[1]
        if "Ctrl-C" in line:
            return trace_id
    raise SystemExit("the run ended early")


def _feed(url: str) -> None:
    """Two days of captured agents' runs, the second with more errors, so that there is something to see."""
    choose = random.Random(7)
    for number in range(500):
        began = int((number / 500) ** 0.7 * 172_000e9)
        weights = [often * (3 if "error" in name and began < DAY_NS else 1) for name, often in RUNS]
        request = agent_export(f"{choose.choices([name for name, _ in RUNS], weights)[0]}.binpb")
        stretch = 5 + int(choose.lognormvariate(3, 0.7))
        service = choose.choice(("checkout", "support", "research"))
        for resource_spans in request.resource_spans:
            for attribute in resource_spans.resource.attributes:
                if attribute.key == "service.name":
                    attribute.value.string_value = service
        first = min(span.start_time_unix_nano for span in all_spans(request))
        for span in all_spans(request):
            for name in ("start_time_unix_nano", "end_time_unix_nano"):
                setattr(span, name, first - began + (getattr(span, name) - first) * stretch)
            for attribute in span.attributes:
                if attribute.key in ("gen_ai.agent.name", "agent_name"):
                    attribute.value.string_value = {"checkout": "planner", "support": "helper"}.get(
                        service, "reader"
                    )
            span.attributes.add(key="sidespan.session.id").value.string_value = f"chat-{number % 30}"
        headers = {"content-type": "application/x-protobuf", "x-mlflow-experiment-name": "agents"}
        body = request.SerializeToString()
        urllib.request.urlopen(urllib.request.Request(f"{url}/v1/traces", body, headers)).close()


async def _take(url: str, trace_id: str) -> None:
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        for name, (width, height) in SIZES.items():
            viewport: ViewportSize = {"width": width, "height": height}
            await _take_lists(browser, url, name, viewport)
            await _take_sheet(browser, url, name, viewport, trace_id)
        page = await browser.new_page(viewport={"width": 1200, "height": 860})
        await page.goto(f"{url}/-/")
        await page.locator(".chart canvas").nth(4).wait_for(timeout=20_000)
        await page.wait_for_timeout(6000)  # the last spans, and a fresh look
        await page.screenshot(path=IMAGES / "overview.png")
        await page.goto(f"{url}/-/#/traces?sort=-cost")
        await page.locator("tbody tr").first.wait_for()
        await page.screenshot(path=IMAGES / "traces.png")
        await page.goto(f"{url}/-/#/trace/{trace_id}")
        await page.get_by_text("execute_tool forecast").first.wait_for(timeout=20_000)
        await page.screenshot(path=IMAGES / "page.png")
        await page.locator(".waterfall .row.TOOL").first.click()
        await page.locator(".panel .tree").first.wait_for()
        await page.screenshot(path=IMAGES / "span.png")
        await page.goto(f"{url}/-/#/session/weather%2F1")
        await page.locator(".turn .call summary").first.click()
        await page.get_by_text("Show me the code").wait_for()
        await page.screenshot(path=IMAGES / "conversation.png")
        path = None
        while path is None:  # until MLflow has it
            await asyncio.sleep(0.5)
            read = f"fetch('/-/traces/{trace_id}').then(a => a.json()).then(a => a.mlflow_path)"
            path = await page.evaluate(read)
        await page.goto(url + path)
        await page.get_by_text("execute_tool forecast").first.wait_for(timeout=60_000)
        await page.wait_for_timeout(1500)
        await page.screenshot(path=IMAGES / "mlflow.png")
        await browser.close()
    for path in IMAGES.glob("*.png"):
        _shrink(path)


def _shrink(path: Path) -> None:
    """A palette is enough for a screenshot, and a third of the bytes."""
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


async def _take_sheet(browser: Browser, url: str, name: str, viewport: ViewportSize, trace_id: str) -> None:
    """Every view at a size, beside each other on one picture; the widest in the dark."""
    theme: Literal["dark", "light"] = "dark" if name == "wide" else "light"
    page = await browser.new_page(viewport=viewport, color_scheme=theme)
    taken = []
    for path, sign in VIEWS:
        await page.goto("about:blank")  # a new start: what was open in a view isn't in the next picture
        await page.goto(f"{url}/-/{path.format(trace_id=trace_id)}")
        await page.locator(sign).nth(0).wait_for(timeout=60_000)
        await page.wait_for_timeout(1000)
        taken.append(Image.open(io.BytesIO(await page.screenshot())).convert("RGB"))
    await page.close()
    width, columns = SHEETS[name]
    height = width * viewport["height"] // viewport["width"]
    sheet = Image.new(
        "RGB", (columns * (width + 8) - 8, -(-len(taken) // columns) * (height + 8) - 8), "#808890"
    )
    for number, view in enumerate(taken):
        place = (number % columns * (width + 8), number // columns * (height + 8))
        sheet.paste(view.resize((width, height), Image.Resampling.LANCZOS), place)
    sheet.save(IMAGES / f"views-{name}.webp", quality=60, method=6)


async def _take_lists(browser: Browser, url: str, name: str, viewport: ViewportSize) -> None:
    """The overview and a comparison at a size; light, but for the tablet."""
    theme: Literal["dark", "light"] = "dark" if name == "tablet" else "light"
    page = await browser.new_page(viewport=viewport, color_scheme=theme)
    for view, path, sign in (("overview", "#/", ".changed .driver"), ("compare", "#/compare", ".sure")):
        await page.goto(f"{url}/-/{path}")
        await page.locator(sign).first.wait_for(timeout=20_000)
        await page.screenshot(path=IMAGES / f"{view}-{name}.png")
    await page.close()


if __name__ == "__main__":
    main()
