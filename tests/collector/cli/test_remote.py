"""The HTTP client of the commands: where the token goes."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from collector.cli import remote


class Somewhere(BaseHTTPRequestHandler):
    """Sends everybody on to a place that notes who comes."""

    visits: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.visits.append((self.path, self.headers.get("authorization")))
        self.send_response(302)
        self.send_header("location", f"http://{self.headers['host']}/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def redirecting() -> Iterator[str]:
    Somewhere.visits = []
    with HTTPServer(("127.0.0.1", 0), Somewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_redirection_is_named_and_gets_no_token(redirecting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDESPAN_TOKEN", "secret")
    with pytest.raises(remote.CannotReach, match=r"redirects to http://127\.0\.0\.1:\d+/elsewhere"):
        remote.get_json(redirecting, "/-/traces")
    assert Somewhere.visits == [("/-/traces", "Bearer secret")]
