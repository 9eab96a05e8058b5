"""What the retention rules cost others: the p95 of other calls while traces are archived and deleted.

MLflow holds 100,000 traces of 6 spans in one experiment. A client asks what people ask, four calls a second
or so: through Sidespan, as the UI and the SDK do, but spans it logs past it. First nothing else happens, then
the rules run too, then they run alone.
"""

import base64
import os
import random
import sqlite3
import statistics
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import export
from tests.support.retained import V3, Retained, call
from tests.support.sidespan import Sidespan

TRACES = int(os.environ.get("SIDESPAN_BENCH_TRACES", "100000"))
# of each of the three parts; the last one also ends when no trace is left
SECONDS = float(os.environ.get("SIDESPAN_BENCH_SECONDS", "45"))
ALONE_SECONDS = float(os.environ.get("SIDESPAN_BENCH_ALONE_SECONDS", "30"))
MEAN_PAUSE_SECONDS = 0.2
BAR = 1.5
RULES = """
[[retention]]
name = "all"
older_than_seconds = 60                # what the client logs meanwhile stays
even_if = ["run"]
"""
TABLES = (
    ("trace_info", "request_id"),
    ("trace_tags", "request_id"),
    ("trace_request_metadata", "request_id"),
    ("trace_metrics", "request_id"),
    ("spans", "trace_id"),
    ("span_metrics", "trace_id"),
)


def run(directory: Path) -> None:
    print("== retention")
    folder = directory / "retention"
    (folder / "mlflow").mkdir(parents=True)
    mlflow = MlflowServer(directory=folder / "mlflow")
    mlflow.start()
    (folder / "sidespan.toml").write_text(RULES)
    arguments = ("--config", str(folder / "sidespan.toml"))
    service = Sidespan(data_dir=folder / "data", mlflow_url=mlflow.url, arguments=arguments)
    try:
        service.start()
        retained = Retained(service, mlflow)
        (trace_id,) = retained.send(_trace(), "0")
        mlflow.stop()
        multiply(mlflow.database, f"tr-{trace_id}", TRACES)
        mlflow.start()
        _measure(retained)
    finally:
        service.stop()
        mlflow.stop()


def _trace() -> Any:
    request = export(spans=6)
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                for number in range(10):
                    attribute = span.attributes.add(key=f"attribute.{number}")
                    attribute.value.string_value = f"{number} " * 50
    return request


def multiply(database: Path, original: str, count: int) -> None:
    """Copies of one trace in MLflow's SQLite, with ids of their own, each an eighth of a second earlier."""
    before = base64.b64encode(bytes.fromhex(original.removeprefix("tr-"))).decode()

    def renamed(text: str, number: int) -> str:
        id = _copy_of(original, number)
        after = base64.b64encode(bytes.fromhex(id.removeprefix("tr-"))).decode()
        return text.replace(before, after).replace(original, id)

    with closing(sqlite3.connect(database)) as db:
        db.create_function("renamed", 2, renamed, deterministic=True)
        numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        for table, key in TABLES:
            names = [row[1] for row in db.execute(f"PRAGMA table_xinfo({table})") if row[6] == 0]
            columns = ", ".join(f'"{name}"' for name in names)
            values = ", ".join(_value(name, key) for name in names)
            db.execute(
                f"INSERT INTO {table} ({columns}) {numbers} SELECT {values} FROM n JOIN"
                f" (SELECT * FROM {table} WHERE {key} = ?) o",
                [count - 1, original],
            )
        db.commit()
        db.execute("ANALYZE")


def _copy_of(original: str, number: int) -> str:
    return f"tr-{number:08x}{original[11:]}"


def _value(name: str, key: str) -> str:
    if name == key:
        return f"printf('tr-%08x', n.i) || substr(o.{key}, 12)"
    if name == "timestamp_ms":
        return "o.timestamp_ms - n.i * 125"
    return 'renamed(o."content", n.i)' if name == "content" else f'o."{name}"'


def _measure(retained: Retained) -> None:
    held = len(retained.ids("0"))
    calls = _calls(retained)
    before = _times(calls, SECONDS)
    retained.begin()
    began = time.monotonic()
    during = _times(calls, SECONDS)
    beside, took = _gone(retained), time.monotonic() - began
    print(f"   {held:,} traces; beside other calls {beside:,} archived and deleted, {beside / took:,.1f}/s")
    for name in before:
        _compare(name, before[name], during[name])
    _compare(f"all (bar {BAR})", sum(before.values(), []), sum(during.values(), []))
    _alone(retained)


def _alone(retained: Retained) -> None:
    before, began = _gone(retained), time.monotonic()
    while retained.state()["run"]["running"] and time.monotonic() - began < ALONE_SECONDS:
        time.sleep(1.0)
    gone, took = _gone(retained), time.monotonic() - began
    print(f"   alone {gone - before:,} in {took:.0f} s, {(gone - before) / took:,.1f}/s")
    state = retained.state()["run"]
    print(f"   trouble: {state['trouble']}; kept: {[rule['kept'] for rule in state['rules']]}")
    size = sum(file.stat().st_size for file in retained.archive("0"))
    print(f"   {size / max(1, gone):,.0f} bytes a trace in the archive")


def _gone(retained: Retained) -> int:
    return sum(rule["traces"] for rule in retained.state()["run"]["rules"])


def _compare(name: str, before: list[float], during: list[float]) -> None:
    old, new = _p95(before), _p95(during)
    middle = statistics.median(before) * 1000, statistics.median(during) * 1000
    print(
        f"   {name}: p95 {old * 1000:.1f} ms before, {new * 1000:.1f} ms during, {new / old:.2f};"
        f" median {middle[0]:.1f} and {middle[1]:.1f}; {len(before)} and {len(during)} calls"
    )


def _calls(retained: Retained) -> dict[str, Callable[[], Any]]:
    place = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}]
    search = {"locations": place, "max_results": 50, "order_by": ["timestamp_ms DESC"]}
    url = retained.service.url
    newest = call(url, "POST", f"{V3}/traces/search", search)["traces"][0]["trace_id"]
    runs = {"experiment_ids": ["0"]}
    return {
        "traces/search": lambda: call(url, "POST", f"{V3}/traces/search", search),
        "traces/get": lambda: call(url, "GET", f"{V3}/traces/get?trace_id={newest}"),
        "runs/search": lambda: call(url, "POST", "/api/2.0/mlflow/runs/search", runs),
        "log spans": lambda: _log_spans(retained.mlflow.url),
    }


def _log_spans(url: str) -> None:
    headers = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": "0"}
    body = _trace().SerializeToString()
    request = urllib.request.Request(f"{url}/v1/traces", data=body, headers=headers)
    urllib.request.urlopen(request, timeout=60).close()


def _times(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, list[float]]:
    """Of each call how long each took, one after the other, at random times."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    chance = random.Random(1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for name, ask in calls.items():
            time.sleep(chance.expovariate(1 / MEAN_PAUSE_SECONDS))
            began = time.perf_counter()
            ask()
            found[name].append(time.perf_counter() - began)
    return found


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]
