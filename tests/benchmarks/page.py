"""The page in headless Chromium: the first view over a million spans, and one trace of 10,000.

A view is there when its figures, rows and charts are drawn, from the moment the address is opened. The
machine is shared with the browser; the page's own work is said apart.
"""

import asyncio
import json
import shutil
import statistics
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, CDPSession, Page, async_playwright

from tests.benchmarks.load import post_all
from tests.benchmarks.multiply import multiply_index
from tests.benchmarks.payloads import SPANS_A_TRACE, body
from tests.collector.api.test_page import CHROMIUM, CHROMIUM_ARGUMENTS
from tests.support.conversations import large_trace
from tests.support.otlp import trace_ids_of
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

TRACES = 2_000
COPIES = 84  # a million spans
ROUNDS = 5
SPANS = 10_000
FRAMES = 200
SIGNS = {
    "overview": ("#/", ".numbers .value", ".chart canvas", ".tops tbody tr"),
    "list of traces": ("#/traces", "tbody tr"),
}
# when all of these are there, and drawn
THERE = """signs => new Promise(done => {
  const look = () => {
    if (!signs.every(sign => document.querySelector(sign))) return requestAnimationFrame(look);
    return requestAnimationFrame(() => setTimeout(() => done(performance.now())));
  };
  look();
})"""
OPENED = """async ([hash, sign]) => {
  const began = performance.now();
  location.hash = hash;
  while (!document.querySelector(sign)) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""
SCROLLED = """async frames => {
  const box = document.querySelector('.waterfall');
  const times = [];
  let before = await new Promise(requestAnimationFrame);
  for (let frame = 0; frame < frames; frame += 1) {
    box.scrollTop += 700;
    const now = await new Promise(requestAnimationFrame);
    times.push(now - before);
    before = now;
  }
  return times;
}"""


def run(directory: Path) -> None:
    print("== page")
    service = Sidespan(data_dir=directory / "page", mlflow_url=f"http://127.0.0.1:{free_port()}")
    spans = _filled(service)
    request = large_trace(SPANS)
    trace_id = next(iter(trace_ids_of(request))).hex()
    service.start()
    try:
        service.wait_index()
        post_all(service.url, [request.SerializeToString()], clients=1)
        _wait_for(service, trace_id)
        asyncio.run(_measured(service.url, spans, trace_id))
    finally:
        service.stop()
        shutil.rmtree(service.data_dir, ignore_errors=True)


def _filled(service: Sidespan) -> int:
    """An index of a million spans of the last days; how many there are."""
    service.start()
    service.wait_index()
    post_all(service.url, [body(50) for _ in range(TRACES // 50)], clients=2)
    while _spans(service) < TRACES * SPANS_A_TRACE:
        time.sleep(0.1)
    service.stop()
    return multiply_index(service.data_dir / "index", COPIES, varied=True)[1]


def _spans(service: Sidespan) -> int:
    with urllib.request.urlopen(f"{service.url}/-/index", timeout=60) as answer:
        return int(json.loads(answer.read())["spans"])


def _wait_for(service: Sidespan, trace_id: str) -> None:
    while True:
        try:
            urllib.request.urlopen(f"{service.url}/-/traces/{trace_id}?max_spans=0", timeout=60).close()
        except OSError:
            time.sleep(0.2)
        else:
            return


async def _measured(url: str, spans: int, trace_id: str) -> None:
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        for name, (hash, *signs) in SIGNS.items():
            cold, works = await _repeated(lambda h=hash, s=signs: _first_view(browser, url + "/-/" + h, s))
            print(
                f"   {name} over {spans:,} spans: drawn {cold} after the address is opened (bar 1,000), "
                f"of which {works} the page's own work"
            )
        opened, works = await _repeated(lambda: _opened(browser, url, trace_id))
        print(f"   a trace of {SPANS:,} spans: drawn after {opened} (bar 1,000), {works} the page's own work")
        await _scrolled(browser, url, trace_id)
        await browser.close()


async def _repeated(measure: Callable[[], Awaitable[tuple[float, float]]]) -> tuple[str, str]:
    await measure()
    taken = [await measure() for _ in range(ROUNDS)]
    both = (statistics.median(each) for each in zip(*taken, strict=True))
    whole, own = (f"{milliseconds:,.0f} ms" for milliseconds in both)
    return whole, own


async def _first_view(browser: Browser, address: str, signs: list[str]) -> tuple[float, float]:
    """In a browser that has nothing of the page yet, in milliseconds."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    page = await context.new_page()
    work = await _work_of(page)
    await page.goto(address, wait_until="commit")
    took = float(await page.evaluate(THERE, signs))
    own = await work()
    await context.close()
    return took, own


async def _opened(browser: Browser, url: str, trace_id: str) -> tuple[float, float]:
    """From another view, as by a click on a row."""
    page = await browser.new_page(viewport={"width": 1280, "height": 860})
    await page.goto(f"{url}/-/#/health")
    await page.locator("#parts .good").nth(0).wait_for()
    # whoever clicks takes longer than the page to read the scripts of its other views
    await page.wait_for_load_state("networkidle")
    work = await _work_of(page)
    took = float(await page.evaluate(OPENED, [f"#/trace/{trace_id}", ".waterfall .row"]))
    own = await work()
    await page.close()
    return took, own


async def _scrolled(browser: Browser, url: str, trace_id: str) -> None:
    page = await browser.new_page(viewport={"width": 1280, "height": 860})
    await page.goto(f"{url}/-/#/trace/{trace_id}")
    await page.locator(".waterfall .row").nth(0).wait_for()
    work = await _work_of(page)
    times = await page.evaluate(SCROLLED, FRAMES)
    own = await work() / FRAMES
    rate = 1000 / statistics.median(times)
    late = sum(each > 25 for each in times) / len(times)
    print(
        f"   its {SPANS:,} rows scroll at {rate:.0f} frames/s (bar 60), {late:.0%} of the frames late; "
        f"a frame takes {own:.1f} ms of the processor (bar 16)"
    )
    await page.close()


async def _work_of(page: Page) -> Callable[[], Awaitable[float]]:
    """What the page's thread works from now on, in milliseconds of the processor."""
    metrics = await page.context.new_cdp_session(page)
    await metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = await _task_seconds(metrics)

    async def work() -> float:
        return (await _task_seconds(metrics) - before) * 1000

    return work


async def _task_seconds(metrics: CDPSession) -> float:
    told: Any = await metrics.send("Performance.getMetrics")
    return float({each["name"]: each["value"] for each in told["metrics"]}["TaskDuration"])
