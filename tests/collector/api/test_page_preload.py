"""What the document names for the browser to load at once is what the first views import."""

import re

from starlette.testclient import TestClient

from collector.api import page
from tests.support.answers import own_app_with

IMPORT = re.compile(r"""(?:from|import)\s*"\./([\w./]+\.js)\"""")
READ_WHEN_NEEDED = re.compile(r"""import\("\./([\w./]+\.js)"\)""")
FIRST_VIEWS = {"overview.js", "lists.js"}
RUN = {"early.js", "app.js"}


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


def test_every_script_of_the_first_views_is_preloaded_and_no_other_ones_are() -> None:
    client = TestClient(own_app_with(page.ROUTES))
    named = re.findall(r'<link rel="modulepreload"[^>]* href="static/([^"]+)">', client.get("/-/").text)
    needed = [imported(client, name) for name in RUN | FIRST_VIEWS]
    assert set(named) == FIRST_VIEWS.union(*needed)
    assert len(named) == len(set(named))


def test_the_scripts_of_the_other_views_are_read_when_they_are_needed() -> None:
    client = TestClient(own_app_with(page.ROUTES))
    views = set(READ_WHEN_NEEDED.findall(client.get("/-/static/views.js").text))
    assert views > FIRST_VIEWS
    assert "trace.js" in views - imported(client, "app.js")
