"""What the retention rules cost others: the p95 of other calls while traces are archived and deleted.

MLflow holds 100,000 traces of 6 spans in one experiment. A client asks what people ask, four calls a second
or so: through Sidespan, as the UI and the SDK do, but spans it logs past it. Windows alternate: in one of
them nothing else happens, in the next one the rules run, over the traces that have just become old enough.
The ratio of two such windows is what counts, for the machine is another one every minute. At the end the
rules run alone, and some of the traces are restored and compared with what MLflow had.
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

import psutil

from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import export
from tests.support.retained import V3, Retained, call
from tests.support.sidespan import Sidespan

TRACES = int(os.environ.get("SIDESPAN_BENCH_TRACES", "100000"))
# how many of them go while nobody else asks, and while others do
ALONE = int(os.environ.get("SIDESPAN_BENCH_ALONE", "20000"))
BESIDE = int(os.environ.get("SIDESPAN_BENCH_BESIDE", str(TRACES - ALONE)))
# of a window without the rules, and about as long of one with them
SECONDS = float(os.environ.get("SIDESPAN_BENCH_SECONDS", "20"))
# MLflow's file as mlflow.database_file; without it, spans are read from the API
WITH_FILE = os.environ.get("SIDESPAN_BENCH_FILE", "1") == "1"
MEAN_PAUSE_SECONDS = 0.2
BAR = 1.5
COMPARED = 50
OLD_SECONDS = 3600
RULES = f"""
[[retention]]
name = "all"
older_than_seconds = {OLD_SECONDS}
even_if = ["run"]
"""
WHERE = """
[mlflow]
database_file = "{database}"
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
    where = WHERE.format(database=mlflow.database) if WITH_FILE else ""
    (folder / "sidespan.toml").write_text(where + RULES)
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
    """Copies of one trace in MLflow's SQLite, with ids of their own, each a few milliseconds earlier."""
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
        return "o.timestamp_ms - n.i * 5"
    return 'renamed(o."content", n.i)' if name == "content" else f'o."{name}"'


def _measure(retained: Retained) -> None:
    calls, before = _calls(retained), _ids(retained)
    stored = {id: retained.stored(id) for id in random.Random(1).sample(before[: BESIDE + ALONE], COMPARED)}
    print(f"   {len(before):,} traces; spans from {'the file' if WITH_FILE else 'the API'}", flush=True)
    ratios: dict[str, list[float]] = {}
    gone, took, size = 0, 0.0, 500
    while gone < BESIDE and (some := before[gone : gone + size]):
        quiet = _times(calls, until=_after(SECONDS))
        _make_old(retained, some)
        began = time.monotonic()
        retained.begin()
        beside = _times(calls, until=_ended(retained))
        lasted = time.monotonic() - began
        gone, took = gone + len(some), took + lasted
        _compare(ratios, quiet, beside, f"{gone:,} gone, {len(some) / lasted:.1f}/s")
        size = max(100, round(len(some) / lasted * SECONDS))
    print(f"   beside other calls {gone:,} in {took:.0f} s, {gone / max(1, took):.1f}/s", flush=True)
    for name, found in ratios.items():
        middle = statistics.median(found)
        print(f"   {name}: p95 with the rules to p95 without, median of {len(found)}: {middle:.2f}")
    _alone(retained, before[gone : gone + ALONE])
    _restore(retained, stored)


def _ids(retained: Retained) -> list[str]:
    """All traces (hex), the oldest first."""
    with closing(sqlite3.connect(f"file:{retained.mlflow.database}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT request_id FROM trace_info ORDER BY timestamp_ms").fetchall()
    return [row[0].removeprefix("tr-") for row in rows]


def _make_old(retained: Retained, ids: list[str]) -> None:
    """Old enough for the rule."""
    with closing(sqlite3.connect(retained.mlflow.database, timeout=60)) as db, db:
        db.executemany(
            f"UPDATE trace_info SET timestamp_ms = timestamp_ms - {2000 * OLD_SECONDS} WHERE request_id = ?",
            [[f"tr-{id}"] for id in ids],
        )


def _after(seconds: float) -> Callable[[], bool]:
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() >= deadline


def _ended(retained: Retained) -> Callable[[], bool]:
    return lambda: not retained.state()["run"]["running"]


def _compare(
    ratios: dict[str, list[float]], quiet: dict[str, list[float]], beside: dict[str, list[float]], what: str
) -> None:
    """Add the ratios of two windows to those before."""
    for name in quiet:
        if min(len(quiet[name]), len(beside[name])) > 5:
            ratios.setdefault(name, []).append(_p95(beside[name]) / _p95(quiet[name]))
    old, new = sum(quiet.values(), []), sum(beside.values(), [])
    found = ratios.setdefault(f"all (bar {BAR})", [])
    found.append(_p95(new) / _p95(old))
    middle = statistics.median(old) * 1000, statistics.median(new) * 1000
    print(
        f"   {what}; p95 {_p95(old) * 1000:.0f} ms and {_p95(new) * 1000:.0f} ms with the rules,"
        f" {found[-1]:.2f}; median {middle[0]:.0f} and {middle[1]:.0f};"
        f" {len(old)} and {len(new)} calls; median ratio so far {statistics.median(found):.2f}",
        flush=True,
    )


def _alone(retained: Retained, ids: list[str]) -> None:
    if not ids:
        return
    _make_old(retained, ids)
    time.sleep(11)  # until the others' last request is no reason to be slow
    processes = {"MLflow": retained.mlflow.process, "Sidespan": retained.service.process}
    before = {name: _cpu_seconds(each.pid) for name, each in processes.items() if each is not None}
    began = time.monotonic()
    retained.begin()
    state = retained.ended(seconds=3600)
    took, gone = time.monotonic() - began, _gone(retained)
    print(f"   alone {gone:,} of {len(ids):,} in {took:.0f} s, {gone / took:,.1f}/s")
    for name, seconds in before.items():
        spent = _cpu_seconds(getattr(processes[name], "pid", 0)) - seconds
        print(f"   {name}: {spent / max(1, gone) * 1000:.2f} ms of processor a trace")
    print(f"   trouble: {state['trouble']}; kept: {[rule['kept'] for rule in state['rules']]}")
    size = sum(file.stat().st_size for file in retained.archive("0"))
    archived = retained.state()["archive"]["experiments"]["0"]
    print(f"   {size / sum(archived.values()):,.0f} bytes a trace in the archive; {archived}", flush=True)


def _cpu_seconds(pid: int) -> float:
    """Of a process and all that it has started."""
    process = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:2]) for each in [process, *process.children(recursive=True)])


def _restore(retained: Retained, stored: dict[str, Any]) -> None:
    for id in stored:
        retained.restore(trace_id=id)
    retained.service.wait_delivered(120)
    same = sum(_spans(retained.stored(id)) == _spans(trace) for id, trace in stored.items())
    print(f"   restored: {same} of {len(stored)} are as MLflow had them, span by span", flush=True)


def _spans(trace: Any) -> list[Any]:
    """In an order of their own; MLflow sorts attributes as it likes."""
    spans = [] if trace is None else trace["spans"]
    plain = [each | {"attributes": sorted(each["attributes"], key=lambda one: one["key"])} for each in spans]
    return sorted(plain, key=lambda each: each["span_id"])


def _gone(retained: Retained) -> int:
    return sum(rule["traces"] for rule in retained.state()["run"]["rules"])


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


def _times(calls: dict[str, Callable[[], Any]], *, until: Callable[[], bool]) -> dict[str, list[float]]:
    """Of each call how long each took, one after the other, at random times."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    chance = random.Random(1)
    while not until():
        for name, ask in calls.items():
            time.sleep(chance.expovariate(1 / MEAN_PAUSE_SECONDS))
            began = time.perf_counter()
            ask()
            found[name].append(time.perf_counter() - began)
    return found


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]
