"""Alerts of the running service: told once through kills, listed, tried out, silenced, shown on the page."""

import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.collector.api.test_page import VIEWS, check_readable
from tests.support.mcp_client import call, connected
from tests.support.otlp import agent_export, export
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan
from tests.system.test_index import NOWHERE, ask, held, send, started, until
from tests.system.test_own_paths import cli
from tests.system.test_page_views import EVIL, opened

pytestmark = pytest.mark.slow

SETTINGS = """
[alerting]
public_url = "https://sidespan.example.com"
backoff_initial_seconds = 0.05
backoff_max_seconds = 0.1

[alerting.channels.hook]
type = "webhook"
url = "{url}"

[[alerts]]
name = "busy"
metric = "count"
window_seconds = 12
every_seconds = 1
delay_seconds = 0
above = 0

[[alerts]]
name = "failing tools"
description = "Look at the tools."
of = "tools"
metric = "error_rate"
by = ["tool"]
window_seconds = 86400
every_seconds = 1
delay_seconds = 0
above = 0.1
repeat_seconds = 0

[[alerts]]
name = "<b>quiet</b>"
metric = "cost_usd"
window_seconds = 3600
above = 1000
"""


class Receiver:
    """A webhook's receiver that can be told to refuse for a while."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.refused = 0
        self.open = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                is_open = receiver.open.is_set()
                if is_open:
                    receiver.taken.append(body)
                else:
                    receiver.refused += 1
                self.send_response(200 if is_open else 503)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def ids(self, alert: str, event: str) -> set[str]:
        return {each["id"] for each in self.taken if (each["alert"], each["event"]) == (alert, event)}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def watching(tmp_path: Path, receiver: Receiver) -> Iterator[Sidespan]:
    settings = tmp_path / "sidespan.toml"
    settings.write_text(SETTINGS.format(url=receiver.url))
    service = Sidespan(data_dir=tmp_path / "data", mlflow_url=NOWHERE, arguments=("--config", str(settings)))
    started(service)
    yield service
    service.kill()


def alert_of(service: Sidespan, name: str) -> dict[str, Any]:
    return next(each for each in ask(service, "/-/alerts")["alerts"] if each["name"] == name)


@pytest.mark.timeout(300)  # four starts of the service
def test_through_kills_and_refusals_an_alert_fires_once_and_recovers_once(
    watching: Sidespan, receiver: Receiver
) -> None:
    """The receiver refuses until the service has been killed again and again, before and after it fired."""

    def fires() -> bool:
        send(watching, agent_export())  # on a busy machine one trace may be indexed after its window
        time.sleep(1)
        return bool(alert_of(watching, "busy")["status"] == "firing")

    until(fires, seconds=60, service=watching)
    for pause in (0.0, 0.3, 0.7):
        refused = receiver.refused
        until(lambda refused=refused: receiver.refused > refused, service=watching)
        time.sleep(pause)  # another moment of the work each time
        watching.kill()
        started(watching)
    receiver.open.set()
    until(lambda: len(receiver.ids("busy", "recovered")) == 1, seconds=60, service=watching)
    watching.kill()
    started(watching)
    until(lambda: alert_of(watching, "busy")["status"] == "ok", service=watching)
    (fired,) = receiver.ids("busy", "fired")
    (recovered,) = receiver.ids("busy", "recovered")
    assert fired != recovered
    of_it = [each for each in receiver.taken if each["alert"] == "busy"]
    assert len({each["incident"] for each in of_it}) == 1
    assert [each["event"] for each in of_it][:1] == ["fired"], "nobody hears of the end before the beginning"
    assert ask(watching, "/-/alerts")["channels"][0]["pending"] == 0


async def test_an_alert_is_listed_tried_out_silenced_and_shown(
    watching: Sidespan, receiver: Receiver
) -> None:
    receiver.open.set()
    assert "ok" in json.dumps(ask(watching, "/-/alerts")["alerts"])
    failing = agent_export("pydantic_ai_v5_tool_error.binpb")
    send(watching, failing)
    send(watching, agent_export())
    until(lambda: held(watching)[0] == 2, service=watching)
    until(lambda: bool(receiver.ids("failing tools", "fired")), service=watching)
    told = next(each for each in receiver.taken if each["alert"] == "failing tools")
    assert told["link"].startswith("https://sidespan.example.com/-/#/traces?tool=")
    assert told["traces"][0]["trace_id"] == failing.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
    assert told["description"] == "Look at the tools."

    listed = cli(watching, "alerts", "list")
    assert listed.returncode == 1, "an alert fires"
    assert "firing   failing tools: error_rate of tools by tool above 0.1" in listed.stdout
    assert "channel  hook (webhook): 0 waiting, 0 dead letters" in listed.stdout
    assert json.loads(cli(watching, "alerts", "list", "--json").stdout)["alerts"][1]["status"] == "firing"

    async with connected(watching) as agent:
        alert = (await call(agent, "get_health"))["telemetry"]["alerts"][0]
        assert (alert["name"], alert["status"], alert["groups"][0]["group"]) == (
            "failing tools", "firing", told["group"],
        )  # fmt: skip
        assert alert["groups"][0]["example_trace_ids"] == [each["trace_id"] for each in told["traces"]]
        rows = (await call(agent, "search_traces", **alert["groups"][0]["filters"]))["telemetry"]["traces"]
        assert [row["trace_id"] for row in rows] == alert["groups"][0]["example_trace_ids"]

    tried = cli(watching, "alerts", "test", "failing tools", "--since", "-20s", "--json")
    (event,) = json.loads(tried.stdout)["events"]
    assert (event["event"], event["group"]) == ("fired", told["group"])
    file = watching.data_dir.with_name("other.toml")
    file.write_text('[[alerts]]\nname = "new"\nmetric = "count"\nevery_seconds = 5\nabove = 1\n')
    tried = cli(watching, "alerts", "test", "new", "--config", str(file), "--since", "-1m", "--until", "now")
    assert "times fired in" in tried.stdout
    assert cli(watching, "alerts", "test", "none").returncode == 2
    bad = cli(watching, "alerts", "test", "failing tools", "--since", "tomorrow")
    assert (bad.returncode, "since" in bad.stderr) == (1, True)

    assert cli(watching, "alerts", "snooze", "failing tools", "2h").returncode == 0
    assert alert_of(watching, "failing tools")["asleep_until_unix_ns"] > time.time_ns()
    assert "awake" in cli(watching, "alerts", "snooze", "failing tools", "0").stdout
    assert cli(watching, "alerts", "snooze", "unknown", "1h").returncode == 1
    assert cli(watching, "alerts", "snooze", "busy", "soon").returncode == 2

    metrics = cli_metrics(watching)
    assert 'sidespan_alert_groups{alert="failing tools",state="firing"} 1.0' in metrics
    assert 'sidespan_alert_notifications_total{channel="hook",outcome="sent"}' in metrics
    assert 'sidespan_alert_pending_notifications{channel="hook"} 0.0' in metrics
    assert watching.health()["parts"]["alerts"]["firing_groups"] >= 1

    async with opened(watching, "#/alerts", **VIEWS["phone"]) as tab:
        table = tab.get_by_role("region", name="Alerts", exact=True)
        await expect(table.locator("tbody tr")).to_have_count(3)
        await expect(table).to_contain_text("<b>quiet</b>")
        await expect(table.locator(".pill.bad").first).to_have_text("▲ firing")
        await expect(tab.get_by_role("region", name="Groups", exact=True)).to_contain_text("tool")
        await expect(tab.get_by_role("region", name="Channels", exact=True)).to_contain_text("hook")
        await check_readable(tab)
        address = (
            await table.locator("tr", has_text="failing tools").locator("a.number-link").get_attribute("href")
        )
        assert address and address.startswith("#/traces?tool=")
        await tab.evaluate("location.hash = '#/'")
        firing = tab.get_by_role("region", name="Alerts that fire").locator("li", has_text="failing tools")
        await expect(firing.locator("a.number-link")).to_have_attribute("href", re.compile("^#/traces.tool="))
    send(watching, export(spans=1))
    until(lambda: held(watching)[0] == 3, service=watching)
    async with opened(watching, told["link"].partition("/-/")[2]) as tab:
        await expect(tab.locator("tbody tr")).to_have_count(2)  # those that use the tool, failing ones first
        first = tab.locator("tbody tr").first.get_by_role("link").first
        await expect(first).to_have_attribute("title", told["traces"][0]["trace_id"])
    assert EVIL not in metrics


def cli_metrics(service: Sidespan) -> str:
    from collector.cli import remote

    return remote.get(service.url, "/-/metrics").decode()


def test_a_bad_alert_stops_the_start_with_its_place(tmp_path: Path) -> None:
    settings = tmp_path / "sidespan.toml"
    settings.write_text('[[alerts]]\nname = "a"\nmetric = "cots"\nabove = 1\n')
    service = Sidespan(data_dir=tmp_path / "data", mlflow_url=NOWHERE, arguments=("--config", str(settings)))
    with pytest.raises(RuntimeError, match=r"sidespan.toml: alerts.0.metric = 'cots': of traces there are"):
        service.start()
