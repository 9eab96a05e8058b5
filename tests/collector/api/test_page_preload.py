"""What the document names for the browser to load at once is what the scripts import."""

import re

from starlette.testclient import TestClient

from collector.api import page
from tests.support.answers import own_app_with

IMPORT = re.compile(r"""(?:from|import)\s*"\./([\w./]+\.js)\"""")


def imported(client: TestClient, name: str) -> set[str]:
    """The scripts that a script imports, with all that those do."""
    found: set[str] = set()
    waiting = {name}
    while waiting:
        at = waiting.pop()
        folder = at.rpartition("/")[0]
        text = client.get(f"/-/static/{at}").text
        new = {f"{folder}/{each}" if folder else each for each in IMPORT.findall(text)} - found
        found |= new
        waiting |= new
    return found


def test_every_script_that_the_page_imports_is_preloaded_and_nothing_else() -> None:
    client = TestClient(own_app_with(page.ROUTES))
    named = re.findall(r'<link rel="modulepreload" href="static/([^"]+)">', client.get("/-/").text)
    assert set(named) == imported(client, "app.js")
    assert len(named) == len(set(named))
