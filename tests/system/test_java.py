"""Java's own HTTP client, which offers `Upgrade: h2c` on each plain request, and gRPC: all is stored.

Source: JDK, `java.net.http.HttpClient.Version.HTTP_2`, the default; RFC 9110, section 7.8.
"""

import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import export
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

JAVA = Path(__file__).parents[1] / "clients" / "java"
SPANS = 300

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.xdist_group("java"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("java") is None, reason="needs java (default-jdk-headless)"),
]


def run(command: Sequence[str | Path], folder: Path, *, seconds: float = 90) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Export.java and, in lib, what it needs."""
    if shutil.which("mvn") is None:
        pytest.skip("needs mvn (maven)")
    folder = tmp_path_factory.mktemp("java") / "client"
    shutil.copytree(JAVA, folder)
    maven = ["mvn", "-q", "-B", "-ntp", "dependency:copy-dependencies", "-DoutputDirectory=lib"]
    run(maven, folder, seconds=540)
    return folder


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_every_span_of_opentelemetrys_exporter_is_stored(
    mlflow_server: MlflowServer,
    sidespan: Sidespan,
    experiment_id: str,
    exporter: Path,
    compression: str,
    protocol: str,
) -> None:
    sidespan.grpc_port = free_port()
    sidespan.start()
    url = sidespan.url if protocol == "http" else f"http://127.0.0.1:{sidespan.grpc_port}"
    command = ["java", "-cp", "lib/*", "Export.java", protocol, url, experiment_id, compression, str(SPANS)]
    assert run(command, exporter) == "exported\n"
    sidespan.wait_delivered(60)
    assert len(mlflow_server.spans(experiment_id)) == SPANS


def test_what_the_jdks_client_posts_is_stored(
    mlflow_server: MlflowServer, sidespan: Sidespan, tmp_path: Path
) -> None:
    sidespan.environment = {"SIDESPAN_ROUTING__DEFAULT_EXPERIMENT": mlflow_server.create_experiment("jdk")}
    sidespan.start()
    body = tmp_path / "spans"
    body.write_bytes(export(spans=5).SerializeToString())
    url = f"{sidespan.url}/v1/traces"
    answers = run(["java", JAVA / "Post.java", url, "application/x-protobuf", body, "3"], tmp_path)
    assert answers.split() == ["200"] * 3
    sidespan.wait_delivered(120)
    assert len(mlflow_server.spans(sidespan.environment["SIDESPAN_ROUTING__DEFAULT_EXPERIMENT"])) == 5


def test_what_it_posts_reaches_mlflow_through_the_proxy(sidespan: Sidespan, tmp_path: Path) -> None:
    sidespan.start()
    body = tmp_path / "experiment"
    body.write_text(f'{{"name": "java-{uuid.uuid4().hex}"}}')
    url = f"{sidespan.url}/api/2.0/mlflow/experiments/create"
    answers = run(["java", JAVA / "Post.java", url, "application/json", body, "2"], tmp_path)
    assert answers.startswith("200 {")
    assert "RESOURCE_ALREADY_EXISTS" in answers  # the second time, by the name in its body
