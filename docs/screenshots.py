"""Takes the README's pictures from a real run: `make run`, then headless Chromium.

python docs/screenshots.py
"""

import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
PORT = "4399"
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


async def _take(url: str, trace_id: str) -> None:
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        page = await browser.new_page(viewport={"width": 1200, "height": 760})
        await page.goto(f"{url}/-/#trace={trace_id}")
        await page.get_by_text("execute_tool forecast").first.wait_for(timeout=20_000)
        await page.screenshot(path=IMAGES / "page.png")
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


if __name__ == "__main__":
    main()
