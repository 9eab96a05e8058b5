"""What the retention rules cost MLflow: the p95 of other calls while traces are archived and deleted.

MLflow holds 100,000 traces of 6 spans in one experiment. One client asks what people ask, one call after
the other, before the run and during it. The run is stopped after SECONDS; it goes on at the same speed.
"""

import base64
import os
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import export
from tests.support.retained import V3, Retained, call
from tests.support.sidespan import Sidespan

TRACES = int(os.environ.get("SIDESPAN_BENCH_TRACES", "100000"))
SECONDS = float(os.environ.get("SIDESPAN_BENCH_SECONDS", "80"))
BEFORE_SECONDS = 20.0
PAUSE_SECONDS = 0.02
BAR = 1.5
RULES = """
[[retention]]
name = "all"
older_than_seconds = 0
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
    calls = _calls(retained)
    before = _times(retained.mlflow.url, calls, BEFORE_SECONDS)
    held = len(retained.ids("0"))
    retained.begin()
    began = time.monotonic()
    during = _times(retained.mlflow.url, calls, SECONDS)
    state = retained.state()["run"]
    took = time.monotonic() - began
    gone = sum(rule["traces"] for rule in state["rules"])
    print(f"   {held:,} traces; {gone:,} archived and deleted in {took:.0f} s, {gone / took:,.1f}/s")
    print(f"   trouble: {state['trouble']}; kept: {[rule['kept'] for rule in state['rules']]}")
    for name in before:
        _compare(name, before[name], during[name])
    _compare(f"all (bar {BAR})", sum(before.values(), []), sum(during.values(), []))
    size = sum(file.stat().st_size for file in retained.archive("0"))
    print(f"   {size / max(1, gone):,.0f} bytes a trace in the archive")


def _compare(name: str, before: list[float], during: list[float]) -> None:
    old, new = _p95(before), _p95(during)
    print(f"   {name}: p95 {old * 1000:.1f} ms before, {new * 1000:.1f} ms during, {new / old:.2f}")


def _calls(retained: Retained) -> dict[str, tuple[str, str, Any]]:
    place = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}]
    search = {"locations": place, "max_results": 50, "order_by": ["timestamp_ms DESC"]}
    newest = call(retained.mlflow.url, "POST", f"{V3}/traces/search", search)["traces"][0]["trace_id"]
    return {
        "traces/search": ("POST", f"{V3}/traces/search", search),
        "traces/get": ("GET", f"{V3}/traces/get?trace_id={newest}", None),
        "experiments/get": ("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", None),
        "runs/search": ("POST", "/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]}),
    }


def _times(url: str, calls: dict[str, tuple[str, str, Any]], seconds: float) -> dict[str, list[float]]:
    """Of each call how long each took, one after the other."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for name, (method, path, document) in calls.items():
            began = time.perf_counter()
            call(url, method, path, document)
            found[name].append(time.perf_counter() - began)
            time.sleep(PAUSE_SECONDS)
    return found


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]
