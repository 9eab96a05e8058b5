"""Real clients: the SDKs' own exporters and curl, through the service into a real MLflow."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from collector.cli import remote
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import export
from tests.support.sidespan import Sidespan

JAVASCRIPT = Path(__file__).parents[1] / "clients" / "js"
EXAMPLES = Path(__file__).parents[2] / "examples"

PYTHON = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
with provider.get_tracer("t").start_as_current_span("root") as root:
    with provider.get_tracer("t").start_as_current_span("child"):
        pass
print(format(root.get_span_context().trace_id, "032x"))
"""


def environment(service: Sidespan, experiment_id: str, **more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIDESPAN_", "OTEL_"))}
    return clean | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": service.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-mlflow-experiment-id={experiment_id}",
        **more,
    }


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_the_python_exporter(
    mlflow_server: MlflowServer, shared_sidespan: Sidespan, experiment_id: str, compression: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PYTHON],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment(shared_sidespan, experiment_id, OTEL_EXPORTER_OTLP_COMPRESSION=compression),
    )
    assert done.stderr == ""
    shared_sidespan.wait_delivered(120)
    spans = mlflow_server.spans(experiment_id)
    assert {trace for trace, _ in spans} == {f"tr-{done.stdout.strip()}"}
    assert len(spans) == 2


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_javascript_exporter_with_json(
    mlflow_server: MlflowServer, shared_sidespan: Sidespan, experiment_id: str, tmp_path: Path
) -> None:
    if shutil.which("npm") is None:
        pytest.skip("the JavaScript client needs node and npm")
    client = tmp_path / "js"
    shutil.copytree(JAVASCRIPT, client, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--silent", "--no-audit"], cwd=client, check=True, timeout=180)
    done = subprocess.run(
        ["node", "send.mjs"],
        cwd=client,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment(shared_sidespan, experiment_id),
    )
    trace_id = done.stdout.strip()
    shared_sidespan.wait_delivered(120)
    assert len(mlflow_server.spans(experiment_id)) == 3

    found = remote.get_json(mlflow_server.url, f"/api/3.0/mlflow/traces/get?trace_id=tr-{trace_id}")
    spans = {span["name"]: span for span in found["trace"]["spans"]}
    attributes = {pair["key"]: pair["value"] for pair in spans["root"]["attributes"]}
    assert "hällo" in json.dumps(attributes["text"], ensure_ascii=False)
    assert "42" in json.dumps(attributes["whole"])
    assert spans["child"]["status"]["message"] == "oh no"
    assert spans["root"]["events"][0]["name"] == "happened"


def test_curl(mlflow_server: MlflowServer, shared_sidespan: Sidespan, experiment_id: str) -> None:
    done = subprocess.run(
        ["bash", str(EXAMPLES / "curl.sh")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"SIDESPAN_URL": shared_sidespan.url, "EXPERIMENT_ID": experiment_id},
    )
    assert "200" in done.stdout
    shared_sidespan.wait_delivered(120)
    assert len(mlflow_server.spans(experiment_id)) == 1


def test_curl_that_offers_http_2(
    mlflow_server: MlflowServer, shared_sidespan: Sidespan, experiment_id: str, tmp_path: Path
) -> None:
    """It sends `Upgrade: h2c`, and goes on in HTTP/1.1 where that is ignored (RFC 9110, section 7.8)."""
    body = tmp_path / "spans"
    body.write_bytes(export(spans=300).SerializeToString())
    done = subprocess.run(
        [
            *("curl", "--silent", "--http2", "--data-binary", f"@{body}", "--write-out", "%{http_code}"),
            *("--header", "content-type: application/x-protobuf"),
            *("--header", f"x-mlflow-experiment-id: {experiment_id}", f"{shared_sidespan.url}/v1/traces"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "200"
    shared_sidespan.wait_delivered(120)
    assert len(mlflow_server.spans(experiment_id)) == 300
