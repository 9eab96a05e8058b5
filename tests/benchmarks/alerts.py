"""What alerts cost: processor time of the service and its index while 100 alerts are evaluated.

The index holds a million spans of the last hours. Alerts are evaluated as often as they are by default: once
a minute for a window of 15 minutes, every two minutes for one of an hour.
"""

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.load import post_all
from tests.benchmarks.multiply import multiply_index
from tests.benchmarks.payloads import SPANS_A_TRACE, body
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

TRACES, TRACES_A_BODY = 5000, 50
SPANS = 1_000_000
SECONDS = 120
BAR_PERCENT = 2.0
KINDS = (
    ("traces", "error_rate", []),
    ("traces", "cost_usd", ["user"]),
    ("traces", "duration_seconds_p95", ["agent"]),
    ("traces", "count", ["session"]),
    ("traces", "total_tokens", ["user"]),
    ("models", "duration_seconds_p95", ["model"]),
    ("models", "cost_usd", ["model"]),
    ("tools", "error_rate", ["tool"]),
    ("tools", "duration_seconds_p99", ["tool"]),
    ("spans", "errors", ["service"]),
)


def run(directory: Path) -> None:
    print("== alerts")
    folder = directory / "alerts"
    _fill(folder)
    _, spans = multiply_index(folder / "index", -(-SPANS // (TRACES * SPANS_A_TRACE)), varied=True)
    idle = _percent(folder, [], seconds=SECONDS)
    for what, questions in (("different questions", 100), ("thresholds on 20 questions", 20)):
        alerts = _alerts(questions)
        used = _percent(folder, alerts, seconds=SECONDS)
        print(
            f"   {len(alerts)} alerts, {what}, over {spans:,} spans: {used - idle:.1f} % of a core "
            f"(bar {BAR_PERCENT:g}), {idle:.1f} % without"
        )


def _fill(folder: Path) -> None:
    service = _service(folder, [])
    service.start()
    service.wait_index()
    try:
        for _ in range(TRACES // TRACES_A_BODY // 10):
            post_all(service.url, [body(TRACES_A_BODY) for _ in range(10)], clients=1)
        while _ask(service, "/-/index")["spans"] < TRACES * SPANS_A_TRACE:
            time.sleep(0.1)
    finally:
        service.stop()


def _alerts(questions: int) -> list[dict[str, Any]]:
    """A hundred alerts that ask so many different questions."""
    return [
        {
            "name": f"alert {number}",
            "of": of,
            "metric": metric,
            "by": by,
            "filters": {"service": f"service-{asked // 20}"},
            "window_seconds": (900, 3600)[asked // 10 % 2],
            "above": 1e9 + number,
        }
        for number in range(100)
        for asked in (number % questions,)
        for of, metric, by in (KINDS[asked % 10],)
    ]


def _service(folder: Path, alerts: list[dict[str, Any]]) -> Sidespan:
    """The settings hold the alerts as TOML, which has JSON's texts, numbers and lists."""
    lines = []
    for alert in alerts:
        lines.append("[[alerts]]")
        lines += [
            f"{key} = {{ service = {json.dumps(value['service'])} }}"
            if key == "filters"
            else f"{key} = {json.dumps(value)}"
            for key, value in alert.items()
        ]
    config = folder.with_suffix(".toml")
    config.write_text("\n".join(lines))
    return Sidespan(
        data_dir=folder,
        mlflow_url=f"http://127.0.0.1:{free_port()}",
        arguments=("--config", str(config)),
    )


def _percent(folder: Path, alerts: list[dict[str, Any]], *, seconds: float) -> float:
    """Processor time of the service and its processes, in per cent of one core, once all are evaluated."""
    service = _service(folder, alerts)
    service.start()
    try:
        service.wait_index()
        while any(alert["evaluated_unix_ns"] is None for alert in _ask(service, "/-/alerts")["alerts"]):
            time.sleep(0.5)
        began, before = time.monotonic(), _cpu_seconds(service)
        time.sleep(seconds)
        used = (_cpu_seconds(service) - before) / (time.monotonic() - began)
        found = _ask(service, "/-/alerts")["alerts"]
        assert not [alert for alert in found if alert["trouble"]]
        assert all(any(group["sample"] for group in alert["groups"]) for alert in found), "all have data"
        return 100 * used
    finally:
        service.stop()


def _cpu_seconds(service: Sidespan) -> float:
    assert service.process is not None
    process = psutil.Process(service.process.pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _ask(service: Sidespan, path: str) -> Any:
    with urllib.request.urlopen(service.url + path, timeout=60) as answer:
        return json.loads(answer.read())
