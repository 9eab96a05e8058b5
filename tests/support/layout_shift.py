"""How far what is on a page moves while a view comes: https://web.dev/articles/cls."""

from typing import Any

from playwright.async_api import Page, expect

MAX_SHIFT = 0.05
# what follows a click within half a second is left out
_WATCH = """window.shifted = 0; new PerformanceObserver(list => list.getEntries().forEach(
  entry => { window.shifted += entry.hadRecentInput ? 0 : entry.value; }
)).observe({type: 'layout-shift', buffered: true})"""
# entries come after the frame that they are about
_AFTER_A_FRAME = "() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)))"


async def watch_shifts(tab: Page) -> None:
    """From the next document on that the tab opens."""
    await tab.add_init_script(_WATCH)


async def shift_of(tab: Page, address: str, signs: tuple[str, ...]) -> float:
    """How far what was there moved, until all of a view is: each sign is seen."""
    await tab.goto("about:blank")
    await tab.goto(address)
    for sign in signs:
        await expect(tab.locator(sign).nth(0)).to_be_visible(timeout=60_000)
    await expect(tab.locator("#state")).to_have_text("Ready")
    await tab.evaluate(_AFTER_A_FRAME)
    shifted: Any = await tab.evaluate("window.shifted")
    return float(shifted)
