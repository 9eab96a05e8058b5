"""Runs of a real MLflow, by API, Logs API, CLI and the page about the API."""

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.populate import call
from tests.support.forked import sidespan_command
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export
from tests.support.proxied import tokens_for
from tests.support.sidespan import Sidespan

pytestmark = pytest.mark.slow
V2 = "/api/2.0/mlflow"
POINTS = 26_000  # more than a page of MLflow's


@pytest.fixture(scope="module")
def sidespan(tmp_path_factory: pytest.TempPathFactory, mlflow_server: MlflowServer) -> Iterator[Sidespan]:
    found = Sidespan(tmp_path_factory.mktemp("runs") / "data", mlflow_server.url)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def run_id(mlflow_server: MlflowServer, sidespan: Sidespan) -> str:
    """A run with a long history, a short one, a child, a file, a dataset and linked traces."""
    url = mlflow_server.url
    experiment = mlflow_server.create_experiment("runs to be read")
    made = call(
        url,
        "POST",
        f"{V2}/runs/create",
        {"experiment_id": experiment, "run_name": "parent", "start_time": 1000},
    )
    run: str = made["run"]["info"]["run_id"]
    for start in range(0, POINTS, 1000):
        metrics = [
            {"key": "long", "value": float(n % 1000), "timestamp": n, "step": n}
            for n in range(start, start + 1000)
        ]
        if start == 13_000:
            metrics[500]["value"] = 1e6  # a spike
        call(url, "POST", f"{V2}/runs/log-batch", {"run_id": run, "metrics": metrics})
    call(
        url,
        "POST",
        f"{V2}/runs/log-batch",
        {
            "run_id": run,
            "metrics": [{"key": "short", "value": 0.5, "timestamp": 1, "step": 1}],
            "params": [{"key": "lr", "value": "0.1"}],
            "tags": [{"key": "team", "value": "one"}],
        },
    )
    dataset = {"name": "sums", "digest": "d", "source_type": "local", "source": "{}"}
    tags = [{"key": "mlflow.data.context", "value": "training"}]
    call(
        url,
        "POST",
        f"{V2}/runs/log-inputs",
        {"run_id": run, "datasets": [{"dataset": dataset, "tags": tags}]},
    )
    call(
        url,
        "PUT",
        f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/deep/er/file.txt",
        b"file",
    )
    child = {
        "experiment_id": experiment,
        "start_time": 2000,
        "tags": [{"key": "mlflow.parentRunId", "value": run}],
    }
    call(url, "POST", f"{V2}/runs/create", child | {"run_name": "child"})
    headers = {
        "content-type": "application/x-protobuf",
        "x-mlflow-experiment-id": experiment,
        "x-mlflow-run-id": run,
    }
    for _ in range(3):
        call(sidespan.url, "POST", "/v1/traces", agent_export().SerializeToString(), **headers)
    sidespan.wait_delivered(120)
    call(url, "POST", f"{V2}/runs/update", {"run_id": run, "status": "FINISHED", "end_time": 61_000})
    return run


def get(sidespan: Sidespan, path: str, **headers: str) -> tuple[int, Any]:
    return answered(urllib.request.Request(sidespan.url + path, headers=headers))


def post(sidespan: Sidespan, path: str, document: Any) -> tuple[int, Any]:
    headers = {"content-type": "application/json"}
    return answered(urllib.request.Request(sidespan.url + path, json.dumps(document).encode(), headers))


def answered(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_one_answer_holds_everything_about_a_run(sidespan: Sidespan, run_id: str) -> None:
    status, run = get(sidespan, f"/-/runs/{run_id}?history=100")
    assert status == 200, run
    assert (run["name"], run["status"], run["duration_seconds"]) == ("parent", "FINISHED", 60.0)
    assert run["params"] == {"lr": "0.1"}
    long, short = run["metrics"]
    assert (long["key"], long["total_points"], long["truncated"]) == ("long", POINTS, False)
    assert (long["minimum"], long["maximum"], long["last"], long["last_step"]) == (
        0.0,
        1e6,
        999.0,
        POINTS - 1,
    )
    assert len(long["history"]) <= 100
    assert max(point["value"] for point in long["history"]) == 1e6, "no spike is lost"
    assert short["history"] == [{"step": 1, "value": 0.5, "unix_ns": 1_000_000}]
    assert run["datasets"] == [{"name": "sums", "digest": "d", "source_type": "local", "context": "training"}]
    assert [each["path"] for each in run["artifacts"]] == ["deep", "deep/er", "deep/er/file.txt"]
    assert [child["name"] for child in run["children"]] == ["child"]
    traces = run["traces"]
    assert (traces["count"], traces["errors"]) == (3, 0)
    assert traces["total_tokens"] == 3 * 963
    assert traces["cost_usd"] == pytest.approx(3 * 0.0034125)
    assert traces["duration_max_seconds"] > 0
    assert traces["names"] == {"invoke_agent agent": 3}
    assert run["incomplete"] == []


def test_a_whole_history_comes_where_it_is_asked_for(sidespan: Sidespan, run_id: str) -> None:
    _, run = get(sidespan, f"/-/runs/{run_id}?history=all&metric=long")
    (metric,) = run["metrics"]
    assert len(metric["history"]) == POINTS
    assert [point["step"] for point in metric["history"]] == list(range(POINTS))
    _, run = get(sidespan, f"/-/runs/{run_id}?history=0")
    assert run["metrics"][0]["history"] is None


def test_lists_page_filter_and_sort(sidespan: Sidespan, run_id: str) -> None:
    first = get(
        sidespan, "/-/runs?experiment_name=runs+to+be+read&limit=1&order_by=attributes.start_time+ASC"
    )[1]
    assert [run["name"] for run in first["runs"]] == ["parent"]
    token = first["next_page_token"]
    second = get(
        sidespan,
        "/-/runs?experiment_name=runs+to+be+read&limit=1&order_by=attributes.start_time+ASC&page_token="
        + token,
    )[1]
    assert [run["name"] for run in second["runs"]] == ["child"]
    only = get(sidespan, "/-/runs?experiment_name=runs+to+be+read&filter=metrics.short+%3C+1")[1]
    assert [run["run_id"] for run in only["runs"]] == [run_id]


def test_runs_are_compared(sidespan: Sidespan, run_id: str) -> None:
    child = get(sidespan, f"/-/runs/{run_id}")[1]["children"][0]["run_id"]
    status, found = get(sidespan, f"/-/runs/compare?run_id={run_id}&run_id={child}")
    assert status == 200
    assert [run["name"] for run in found["runs"]] == ["parent", "child"]
    assert found["params"] == [{"key": "lr", "values": ["0.1", None], "differs": True, "change": None}]


@pytest.mark.parametrize(
    ("path", "status", "parameter"),
    [
        ("/-/runs", 400, "experiment_id"),
        ("/-/runs?experiment_id=01", 400, None),
        ("/-/runs?experiment_id=1&experiment_name=x", 400, "experiment_id"),
        ("/-/runs?experiment_id=0&limit=0", 400, "limit"),
        ("/-/runs?experiment_name=there+is+none", 404, "run or experiment"),
        ("/-/runs?experiment_id=0&filter=nonsense", 404, "run or experiment"),
        ("/-/runs/nowhere", 404, "run or experiment"),
        ("/-/runs/a%20b", 400, "run_id"),
        ("/-/runs/x?history=many", 400, "history"),
        ("/-/runs/compare?run_id=a", 400, "run_id"),
    ],
)
def test_what_cannot_be_right_is_told(
    sidespan: Sidespan, path: str, status: int, parameter: str | None
) -> None:
    found, document = get(sidespan, path)
    assert found == status, document
    assert parameter in (None, document["error"]["parameter"])
    assert document["error"]["message"]


class TestLogsApi:
    def test_health_and_experiments(
        self, sidespan: Sidespan, run_id: str, mlflow_server: MlflowServer
    ) -> None:
        assert post(sidespan, "/health", {}) == (200, {"status": "ok", "tracking_uri": mlflow_server.url})
        status, found = post(
            sidespan, "/mlflow/experiments", {"tracking_uri": mlflow_server.url + "/", "limit": 1000}
        )
        assert status == 200
        assert "runs to be read" in {each["name"] for each in found["experiments"]}
        assert found["count"] == len(found["experiments"])

    def test_runs_by_each_way_of_naming_them(
        self, sidespan: Sidespan, run_id: str, mlflow_server: MlflowServer
    ) -> None:
        status, by_run = post(sidespan, "/mlflow/runs", {"run_id": run_id, "include_metric_history": True})
        assert status == 200
        (run,) = by_run["runs"]
        long = next(metric for metric in run["metrics_history"] if metric["key"] == "long")
        assert (long["total_points"], long["min_value"], long["max_value"], long["last_value"]) == (
            POINTS,
            0.0,
            1e6,
            999.0,
        )
        assert len(long["history"]) == POINTS
        assert long["history"][7] == {"step": 7, "value": 7.0, "timestamp": 7}
        assert run["metrics"]["short"] == 0.5
        assert (run["start_time"], run["end_time"]) == (1000, 61_000)
        by_name = post(sidespan, "/mlflow/runs", {"experiment_name": "runs to be read", "limit": 5})[1]
        assert {each["run_name"] for each in by_name["runs"]} == {"parent", "child"}
        assert all(metric["history"] == [] for each in by_name["runs"] for metric in each["metrics_history"])
        by_id = post(sidespan, "/mlflow/runs", {"experiment_id": run["experiment_id"], "limit": 1})[1]
        assert by_id["count"] == 1

    @pytest.mark.parametrize(
        ("document", "parameter"),
        [
            ({"run_id": "x", "limit": 0}, "limit"),
            ({"run_id": "x", "limt": 1}, "limt"),
            ({"run_id": "x", "experiment_id": "1"}, "experiment_name"),
            ({}, "experiment_name"),
            ({"experiment_id": "01"}, "experiment_id"),
            ({"run_id": "x", "http_timeout": -1}, "http_timeout"),
            ({"run_id": "x", "username": "me"}, "username"),
            ({"run_id": "x", "tracking_uri": "http://169.254.169.254/latest"}, "tracking_uri"),
            ([], "body"),
        ],
    )
    def test_a_mistake_names_field_value_and_what_is_allowed(
        self, sidespan: Sidespan, document: Any, parameter: str
    ) -> None:
        status, found = post(sidespan, "/mlflow/runs", document)
        assert status == 400, found
        assert found["error"]["parameter"] == parameter

    def test_another_server_is_asked_only_if_it_is_listed(
        self, tmp_path: Path, mlflow_server: MlflowServer, run_id: str
    ) -> None:
        service = Sidespan(tmp_path / "data", "http://127.0.0.1:9")
        service.environment = {
            "SIDESPAN_RUNS__ALLOWED_TRACKING_URIS": mlflow_server.url,
            "SIDESPAN_MLFLOW__TOKEN": "secret-of-the-other-server",
        }
        service.start()
        try:
            document = {"tracking_uri": mlflow_server.url, "run_id": run_id}
            assert post(service, "/mlflow/runs", document)[0] == 200
            assert post(service, "/mlflow/runs", {"run_id": run_id})[0] == 503
            refused = post(service, "/mlflow/runs", document | {"tracking_uri": mlflow_server.url + "/x"})
            assert refused[0] == 400
        finally:
            service.stop()


def on_service(service: Sidespan, *arguments: str) -> subprocess.CompletedProcess[str]:
    return sidespan_command(*arguments, "--url", service.url)


def test_the_commands_show_runs(sidespan: Sidespan, run_id: str) -> None:
    one = on_service(sidespan, "summary", "run", run_id)
    assert one.returncode == 0, one.stderr
    for part in ("parent", "long", "26000", "3 traces, 0 errors", "deep/er/file.txt", "child child"):
        assert part in one.stdout, part
    listed = on_service(sidespan, "summary", "runs", "runs to be read")
    assert run_id in listed.stdout
    rows = on_service(sidespan, "summary", "runs", "runs to be read", "--csv").stdout.splitlines()
    assert rows[0].startswith("run_id,name,status")
    assert len(rows) == 3
    child = json.loads(on_service(sidespan, "summary", "run", run_id, "--json").stdout)["children"][0][
        "run_id"
    ]
    assert "lr" in on_service(sidespan, "summary", "run", run_id, child).stdout
    assert on_service(sidespan, "summary", "run", "nowhere").returncode == 1


def test_a_client_reads_runs_of_its_own_experiments_only(
    tmp_path: Path, mlflow_server: MlflowServer, run_id: str
) -> None:
    experiment = mlflow_server.create_experiment("runs-a/own")
    own = mlflow_server.create_run(experiment)
    config = tmp_path / "sidespan.toml"
    config.write_text(
        '[auth]\nmode = "clients"\n[policy.clients]\nanna = ["team"]\n[[policy.roles.team]]\n'
        'allow = ["runs:read", "artifacts:read"]\nexperiments = ["runs-a/*"]\n'
    )
    service = Sidespan(tmp_path / "data", mlflow_server.url)
    service.arguments = ("--config", str(config))
    headers = {"authorization": f"Bearer {tokens_for(tmp_path / 'data' / 'tokens.json', 'anna')['anna']}"}
    service.start()
    try:
        status, run = get(service, f"/-/runs/{own}", **headers)
        assert status == 200, run
        assert run["traces"] is None, "traces:read is not among its rights"
        assert run["artifacts"] == []
        assert get(service, f"/-/runs?experiment_id={experiment}", **headers)[0] == 200
        assert get(service, "/-/runs?experiment_name=runs-a%2Fown", **headers)[0] == 200
        for path in (
            f"/-/runs/{run_id}",
            f"/-/runs/compare?run_id={own}&run_id={run_id}",
            "/-/runs?experiment_id=0",
            f"/-/runs?experiment_id={experiment}&experiment_id=0",
            "/-/runs?experiment_name=runs+to+be+read",
        ):
            status, answer = get(service, path, **headers)
            assert status in (403, 404), path
            assert "parent" not in json.dumps(answer)
        assert get(service, f"/-/runs/{own}")[0] == 401
    finally:
        service.stop()


async def test_the_page_about_the_api_sends_requests(sidespan: Sidespan, run_id: str, tmp_path: Path) -> None:
    from playwright.async_api import Request, async_playwright

    outside: list[str] = []
    said: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith(sidespan.url):
            outside.append(request.url)

    async with async_playwright() as play:
        browser = await play.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", note)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        await page.goto(f"{sidespan.url}/-/docs")
        entry = page.locator("details", has_text="GET /-/runs/{run_id}")
        await entry.locator("summary").click()
        await entry.locator("input[name=run_id]").fill(run_id)
        await entry.get_by_role("button", name="Send").click()
        await entry.get_by_text('"name": "parent"').wait_for()
        await page.screenshot(path=tmp_path / "docs.png")
        listed = page.locator("details", has_text="GET /-/runs List")
        await listed.locator("summary").click()
        await listed.locator("input[name=experiment_name]").fill("runs to be read")
        await listed.locator("input[name=order_by]").fill("attributes.status ASC, attributes.start_time DESC")
        await listed.get_by_role("button", name="Send").click()
        await listed.get_by_text('"name": "child"').wait_for()
        replay = page.locator("details", has_text="POST /-/replay")
        await replay.locator("summary").click()
        await replay.get_by_label('JSON body: {"since_unix_ns"').wait_for()
        width = await page.evaluate("document.documentElement.scrollWidth")
        await browser.close()
    assert outside == []
    assert said == []
    assert width <= 390, "it fits a phone"


def test_a_run_with_everything_is_told_quickly(sidespan: Sidespan, run_id: str) -> None:
    started = time.monotonic()
    get(sidespan, f"/-/runs/{run_id}")
    assert time.monotonic() - started < 10
