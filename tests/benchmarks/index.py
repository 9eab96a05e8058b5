"""The index: how fast it follows, what that costs the receiver, and how fast it answers.

Spans are those of the captured agent run (5.6 kB and 34 attributes each). Sidespan has no MLflow behind it
but where the two are compared.
"""

import json
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.benchmarks.load import post_all, wrk
from tests.benchmarks.multiply import multiply_index, multiply_mlflow
from tests.benchmarks.payloads import SPANS_A_TRACE, body, write_wrk_script
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

BACKLOG_TRACES = 50_000
TRACES_A_BODY = 50
ASKED = 40
ROUNDS = 3
SECONDS = 6
WINDOW = "/-/traces/overview?since=-30d"


def run(directory: Path) -> None:
    print("== index")
    folder = _follow(directory)
    _fresh(directory)
    _beside_the_receiver(directory)
    _answer(directory, folder)
    _beside_mlflow(directory)


def _service(directory: Path, name: str, *, enabled: bool = True, mlflow: str | None = None) -> Sidespan:
    return Sidespan(
        data_dir=directory / name,
        mlflow_url=mlflow or f"http://127.0.0.1:{free_port()}",
        environment={"SIDESPAN_INDEX__ENABLED": str(enabled).lower()},
    )


def _ask(service: Sidespan, path: str) -> Any:
    with urllib.request.urlopen(service.url + path, timeout=120) as answer:
        return json.loads(answer.read())


def _spans(service: Sidespan) -> int:
    try:
        return int(_ask(service, "/-/index")["spans"])
    except OSError:
        return 0


def _follow(directory: Path) -> Path:
    """From a journal that filled up before; the index's folder."""
    service = _service(directory, "follow", enabled=False)
    service.start()
    bodies = [body(TRACES_A_BODY) for _ in range(40)]
    for _ in range(BACKLOG_TRACES // TRACES_A_BODY // len(bodies)):
        # each time under new ids
        post_all(service.url, [body(TRACES_A_BODY) for _ in bodies], clients=2)
    service.stop()
    service.environment = {}
    service.start()
    wanted = BACKLOG_TRACES * SPANS_A_TRACE
    while not (first := _spans(service)):
        time.sleep(0.05)
    began = time.monotonic()
    while _spans(service) < wanted:
        time.sleep(0.1)
    rate = (wanted - first) / (time.monotonic() - began)
    print(f"   follows a backlog of {wanted:,} spans at {rate:,.0f} spans/s (bar 25,000)")
    service.stop()
    return service.data_dir / "index"


def _fresh(directory: Path) -> None:
    """From the acknowledgement to the answer, while spans come in."""
    service = _service(directory, "fresh")
    service.start()
    stop = threading.Event()

    def load() -> None:
        while not stop.wait(0.05):
            post_all(service.url, [body(20)], clients=1)

    loading = threading.Thread(target=load)
    loading.start()
    waits = []
    try:
        while not _spans(service):
            time.sleep(0.05)
        for _ in range(20):
            request = agent_export()
            name = f"fresh-{time.monotonic_ns()}"
            resource = request.resource_spans[0].resource
            del resource.attributes[:]
            resource.attributes.add(key="service.name").value.string_value = name
            post_all(service.url, [request.SerializeToString()], clients=1)
            began = time.monotonic()
            while not _ask(service, f"/-/traces?{urlencode({'service': name})}")["traces"]:
                time.sleep(0.01)
            waits.append(time.monotonic() - began)
    finally:
        stop.set()
        loading.join()
        service.stop()
    print(
        f"   fresh after {statistics.median(waits):.2f} s, {max(waits):.2f} s at the most, "
        "at 2,400 spans/s (bar 2)"
    )


def _beside_the_receiver(directory: Path) -> None:
    for name, traces, connections in (("34 kB", 1, 64), ("1.7 MB", 50, 16)):
        script = write_wrk_script(directory / f"beside-{traces}", traces=traces, count=max(4, 64 // traces))
        rates: dict[bool, list[float]] = {True: [], False: []}
        for number in range(ROUNDS):
            for enabled in (True, False):
                service = _service(directory, f"beside-{traces}-{number}-{enabled}", enabled=enabled)
                service.start()
                if enabled:
                    service.wait_index()
                try:
                    rates[enabled].append(wrk(service.url, script, connections=connections, seconds=SECONDS))
                finally:
                    service.stop()
        on, off = (statistics.median(rates[enabled]) * traces * SPANS_A_TRACE for enabled in (True, False))
        print(
            f"   acknowledged beside it, {name} requests: {on:,.0f} spans/s, "
            f"{on / off:.2f} of {off:,.0f} without (bar 0.8)"
        )


def _timed(ask: Callable[[], object], count: int = ASKED) -> tuple[float, float]:
    """Median and 95th percentile in milliseconds."""
    ask()
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=20)[-1]


def _answer(directory: Path, folder: Path) -> None:
    copies = -(-200_000 // BACKLOG_TRACES)
    for factor, bar in ((copies, 100), (-(-10_000_000 // (BACKLOG_TRACES * SPANS_A_TRACE * copies)), 1000)):
        traces, spans = multiply_index(folder, factor, varied=True)
        service = _service(directory, "follow")
        service.start()
        try:
            while not _spans(service):
                time.sleep(0.2)
            trace_id = _ask(service, "/-/traces?limit=1&sort=-duration")["traces"][0]["trace_id"]
            overview = _timed(lambda service=service: _ask(service, WINDOW))
            one = _timed(lambda service=service, id=trace_id: _ask(service, f"/-/traces/{id}"))
            rows = _timed(lambda service=service: _ask(service, "/-/traces?limit=100&status=ERROR"))
            size = (folder / "index.duckdb").stat().st_size / spans
            print(
                f"   {traces:,} traces, {spans:,} spans: overview {overview[0]:.0f} ms, "
                f"p95 {overview[1]:.0f} (bar {bar}); one trace {one[0]:.1f} ms, p95 {one[1]:.1f} (bar 20); "
                f"100 rows {rows[0]:.0f} ms; {size:.0f} bytes a span"
            )
        finally:
            service.stop()


def _beside_mlflow(directory: Path) -> None:
    """The same 40,000 traces in both: 200 delivered through Sidespan, then copied alike."""
    server = MlflowServer(directory=_made(directory / "compared"))
    server.start()
    service = _service(directory, "compared-sidespan", mlflow=server.url)
    service.start()
    try:
        post_all(service.url, [body(20) for _ in range(10)], clients=1)
        service.wait_delivered(120)
        while _spans(service) < 200 * SPANS_A_TRACE:
            time.sleep(0.1)
    finally:
        service.stop()
        server.stop()
    ours = multiply_index(service.data_dir / "index", 200, varied=False)
    theirs = multiply_mlflow(server.database, 200)
    assert ours == theirs, (ours, theirs)
    server.start()
    service.start()
    try:
        while not _spans(service):
            time.sleep(0.2)
        for what, ask_us, ask_them in _questions(service, server):
            mine, other = _timed(ask_us)[0], _timed(ask_them, 10)[0]
            print(
                f"   {what} over {ours[0]:,} traces: {mine:.1f} ms, MLflow's metrics {other:,.0f} ms, "
                f"{other / mine:,.0f} x (bar 10)"
            )
    finally:
        service.stop()
        server.stop()


def _questions(
    service: Sidespan, server: MlflowServer
) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    def theirs(metric: str, by: str, *aggregations: dict[str, Any]) -> Callable[[], object]:
        document = {
            "experiment_ids": ["0"],
            "view_type": "SPANS",
            "metric_name": metric,
            "aggregations": list(aggregations),
            "dimensions": [by],
            "max_results": 1000,
        }
        request = urllib.request.Request(
            f"{server.url}/api/3.0/mlflow/traces/metrics",
            data=json.dumps(document).encode(),
            headers={"content-type": "application/json"},
        )

        def ask() -> object:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return json.loads(answer.read())

        return ask

    shares = [{"aggregation_type": "PERCENTILE", "percentile_value": share} for share in (50, 95)]
    latency = urlencode(
        {
            "of": "spans",
            "by": "span",
            "metric": ["duration_seconds_p50", "duration_seconds_p95"],
            "top": 1000,
        },
        doseq=True,
    )
    cost = urlencode({"of": "models", "by": "model", "metric": "cost_usd", "top": 1000})
    return [
        (
            "latency percentiles by span name",
            lambda: _ask(service, f"/-/traces/stats?{latency}"),
            theirs("latency", "span_name", *shares),
        ),
        (
            "cost by model",
            lambda: _ask(service, f"/-/traces/stats?{cost}"),
            theirs("total_cost", "span_model_name", {"aggregation_type": "SUM"}),
        ),
    ]


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
