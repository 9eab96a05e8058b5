"""OTLP/gRPC of the whole service: real exporters into a real MLflow, clients, starts and ends."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from tests.proxy.test_clients import Issuer
from tests.support.fake_mlflow import FakeMlflow, running
from tests.support.forked import sidespan_command
from tests.support.grpc_calls import CHECK, SERVING, TRACES, Called, Metadata, failed
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import agent_export, export
from tests.support.ports import free_port
from tests.support.proxied import tokens_for
from tests.support.restarts import take_over
from tests.support.senders import GrpcSenders
from tests.support.sidespan import Sidespan

pytestmark = pytest.mark.slow

NOWHERE = "http://127.0.0.1:9"

EXPORTER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
with provider.get_tracer("t").start_as_current_span("root") as root:
    with provider.get_tracer("t").start_as_current_span("child"):
        pass
print(format(root.get_span_context().trace_id, "032x"))
"""


def run_exporter(service: Sidespan, **environment: str) -> str:
    """OpenTelemetry's own exporter, in a process of its own. The trace's id."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SIDESPAN_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, "-c", EXPORTER],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{service.grpc_port}"} | clean | environment,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def send(service: Sidespan, body: bytes, *, metadata: Metadata = (), seconds: float = 30) -> Called:
    with grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel:
        try:
            call = channel.unary_unary(TRACES)
            return Called(code="OK", body=call(body, metadata=tuple(metadata), timeout=seconds))
        except grpc.RpcError as error:
            return failed(error)


def _never() -> Iterator[bytes]:
    """A message that doesn't come."""
    time.sleep(0.5)
    yield from ()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, mlflow_server: MlflowServer) -> Iterator[Sidespan]:
    """One service for what leaves it as it was."""
    found = Sidespan(
        tmp_path_factory.mktemp("grpc") / "data", mlflow_server.url, grpc_port=free_port(), index=False
    )
    found.start()
    yield found
    found.stop()


class TestExporters:
    @pytest.mark.parametrize(
        "compression", [{}, {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}], ids=["none", "gzip"]
    )
    def test_the_python_exporters_spans_are_in_mlflow(
        self, shared: Sidespan, mlflow_server: MlflowServer, experiment_id: str, compression: dict[str, str]
    ) -> None:
        headers = f"x-mlflow-experiment-id={experiment_id}"
        trace_id = run_exporter(shared, OTEL_EXPORTER_OTLP_HEADERS=headers, **compression)
        shared.wait_delivered(120)
        spans = mlflow_server.spans(experiment_id)
        assert {trace for trace, _ in spans} == {f"tr-{trace_id}"}
        assert len(spans) == 2

    def test_a_large_message_is_read_in_the_decoders_process(
        self, shared: Sidespan, mlflow_server: MlflowServer, experiment_id: str
    ) -> None:
        """It is over the 4 MiB that gRPC takes by default."""
        body = b"".join(agent_export().SerializeToString() for _ in range(130))
        answer = send(shared, body, metadata=[("x-mlflow-experiment-id", experiment_id)])
        assert (len(body) > 4 * 2**20, answer.code) == (True, "OK")
        shared.wait_delivered(60)
        assert len(mlflow_server.spans(experiment_id)) == 780

    def test_what_clients_do_wrong_leaves_no_traceback_in_the_log(self, shared: Sidespan) -> None:
        assert send(shared, bytes(64 * 2**20 + 1)).code == "RESOURCE_EXHAUSTED"
        with grpc.insecure_channel(f"127.0.0.1:{shared.grpc_port}") as channel:
            for seconds in (0.001, 0.05):  # gone before, and while its message is awaited
                channel.stream_unary(TRACES).future(_never(), timeout=seconds).exception()
            channel.unary_unary(TRACES)(b"", compression=grpc.Compression.Gzip, timeout=10)
        assert send(shared, b"").code == "OK"
        text = shared.log.read_text()
        assert "Traceback" not in text
        assert "ERROR" not in text and '"error"' not in text

    def test_it_is_counted_and_in_the_health(self, shared: Sidespan) -> None:
        assert send(shared, b"\xff\xff").code == "INVALID_ARGUMENT"
        part = shared.health()["parts"]["grpc"]
        assert part == {
            "ok": True,
            "reason": f"accepts OTLP/gRPC at port {shared.grpc_port}",
            "url": f"http://127.0.0.1:{shared.grpc_port}",
        }
        with urllib.request.urlopen(f"{shared.url}/-/metrics", timeout=60) as answer:
            text = answer.read().decode()
        assert 'sidespan_requests_refused_total{reason="malformed"}' in text
        with grpc.insecure_channel(f"127.0.0.1:{shared.grpc_port}") as channel:
            assert channel.unary_unary(CHECK)(b"", timeout=10) == SERVING

    def test_the_doctor_finds_it(self, shared: Sidespan) -> None:
        done = sidespan_command(
            *("doctor", "--json", "--url", shared.url),
            SIDESPAN_MLFLOW__URL=shared.mlflow_url,
            SIDESPAN_DATA_DIR=str(shared.data_dir),
        )
        checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
        assert checks["otlp/grpc"]["ok"]
        assert f"at port {shared.grpc_port}" in checks["otlp/grpc"]["finding"]


OIDC = """
[auth]
mode = "clients"
[oidc]
issuer = "{issuer}"
audience = "sidespan"
[policy.clients]
anna = ["ingest-only"]
"""

CLIENTS = """
[auth]
mode = "clients"
[trusted_header]
name = "X-Forwarded-User"
addresses = ["127.0.0.1"]
[policy.clients]
writer = ["ingest-only"]
reader = ["read-only"]
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidespan, dict[str, str]]]:
    home = tmp_path_factory.mktemp("clients")
    (home / "sidespan.toml").write_text(CLIENTS)
    tokens = tokens_for(home / "data" / "tokens.json", "writer", "reader")
    found = Sidespan(home / "data", NOWHERE, grpc_port=free_port(), index=False)
    found.arguments = ("--config", str(home / "sidespan.toml"))
    found.start()
    yield found, tokens
    found.stop()


class TestClients:
    @pytest.mark.parametrize(
        ("name", "value", "code"),
        [
            ("authorization", "Bearer {writer}", "OK"),
            ("x-mlflow-authorization", "Bearer {writer}", "OK"),
            ("x-forwarded-user", "writer", "OK"),
            ("authorization", "Bearer {reader}", "PERMISSION_DENIED"),
            ("x-forwarded-user", "reader", "PERMISSION_DENIED"),
            ("authorization", "Bearer wrong", "UNAUTHENTICATED"),
            ("x-other", "writer", "UNAUTHENTICATED"),
        ],
        ids=["token", "mlflows_header", "auth_proxy", "reader", "proxied_reader", "unknown_token", "nobody"],
    )
    def test_metadata_says_who_sends_as_headers_do(
        self, guarded: tuple[Sidespan, dict[str, str]], name: str, value: str, code: str
    ) -> None:
        service, tokens = guarded
        body = export().SerializeToString()
        answer = send(service, body, metadata=[(name, value.format(**tokens))])
        assert (answer.code, answer.retry_seconds) == (code, None)

    def test_a_denial_is_in_the_audit_log(self, guarded: tuple[Sidespan, dict[str, str]]) -> None:
        service, tokens = guarded
        send(service, b"", metadata=[("authorization", f"Bearer {tokens['reader']}")])
        lines = (service.data_dir / "logs" / "audit.jsonl").read_text().splitlines()
        last = json.loads(lines[-1])
        assert (last["client"], last["decision"], last["path"]) == ("reader", "denied", TRACES)
        assert last["peer"] == "127.0.0.1"


async def test_a_json_web_token_is_its_client(tmp_path: Path) -> None:
    issuer = Issuer()
    issuer.add("k1", "ES256")
    config = tmp_path / "sidespan.toml"
    config.write_text(OIDC.format(issuer=issuer.url))
    service = Sidespan(tmp_path / "data", NOWHERE, grpc_port=free_port(), index=False)
    service.arguments = ("--config", str(config))
    async with issuer.running():
        await asyncio.to_thread(service.start)
        found = {}
        for name, claims in (("anna", {}), ("stranger", {"sub": "bert"}), ("expired", {"exp": 1})):
            metadata = [("authorization", f"Bearer {issuer.token(**claims)}")]
            body = export().SerializeToString()
            found[name] = (await asyncio.to_thread(send, service, body, metadata=metadata)).code
        await asyncio.to_thread(service.stop)
    assert found == {"anna": "OK", "stranger": "PERMISSION_DENIED", "expired": "UNAUTHENTICATED"}


async def test_a_takeover_and_a_stop_under_load_lose_nothing(tmp_path: Path) -> None:
    """The port can't be handed over: exporters are told to come again, by codes on which they do."""
    fake = FakeMlflow()
    async with running(fake, free_port()) as url:
        service = Sidespan(tmp_path / "data", url, grpc_port=free_port(), index=False)
        await asyncio.to_thread(service.start)
        with GrpcSenders(service.grpc_port or 0, headers={"x-mlflow-experiment-id": "1"}) as senders:
            await asyncio.sleep(0.7)
            await asyncio.to_thread(take_over, service)
            await asyncio.sleep(0.7)
            assert await asyncio.to_thread(service.stop) == 0
            enough = max(100, len(senders.acknowledged))
            service.arguments = ()
            await asyncio.to_thread(service.start)
            while len(senders.acknowledged) <= enough:
                await asyncio.sleep(0.05)
        await asyncio.to_thread(service.wait_delivered, 60)
        await asyncio.to_thread(service.stop)
    stored = {(f"tr-{trace.hex()}", span.hex()) for trace, span in fake.stored}
    assert senders.acknowledged <= stored
    assert set(senders.statuses) <= {"OK", "UNAVAILABLE", "CANCELLED"}, senders.statuses


class TestStart:
    @pytest.fixture
    async def service(self, tmp_path: Path) -> AsyncIterator[Sidespan]:
        found = Sidespan(tmp_path / "data", NOWHERE, index=False)
        yield found
        await asyncio.to_thread(found.stop)

    @staticmethod
    def without_grpcio(service: Sidespan, home: Path) -> None:
        (home / "hidden").mkdir()
        (home / "hidden" / "sitecustomize.py").write_text('import sys\nsys.modules["grpc"] = None\n')
        path = os.pathsep.join([str(home / "hidden"), os.environ.get("PYTHONPATH", str(Path.cwd()))])
        service.environment = {"PYTHONPATH": path}

    async def test_without_grpcio_it_starts_and_says_how_to_have_it(
        self, service: Sidespan, tmp_path: Path
    ) -> None:
        self.without_grpcio(service, tmp_path)
        service.grpc_port = None
        await asyncio.to_thread(service.start)
        lines = [line for line in service.log.read_text().splitlines() if "grpcio" in line]
        assert len(lines) == 1
        assert "pip install 'sidespan[server,grpc]'" in lines[0]
        part = service.health()["parts"]["grpc"]
        assert (part["ok"], part["url"]) == (True, None)

    async def test_a_chosen_port_without_grpcio_is_refused(self, service: Sidespan, tmp_path: Path) -> None:
        self.without_grpcio(service, tmp_path)
        service.grpc_port = free_port()
        assert await _refused(service, "pip install 'sidespan[server,grpc]'", "receiver.grpc_port = 0")

    async def test_the_default_port_may_be_taken(self, service: Sidespan) -> None:
        service.grpc_port = None
        with socket.socket() as other:
            try:
                other.bind(("127.0.0.1", 4317))
                other.listen()
            except OSError:
                pass  # by somebody else, then
            await asyncio.to_thread(service.start)
        part = service.health()["parts"]["grpc"]
        assert (part["ok"], part["url"]) == (False, None)
        assert "set receiver.grpc_port to another port" in part["reason"]
        assert "OTLP/gRPC is off" in service.log.read_text()
        assert service.health()["ready"]

    async def test_a_chosen_port_that_is_taken_is_refused(self, service: Sidespan) -> None:
        service.grpc_port = free_port()
        with socket.socket() as other:
            other.bind(("127.0.0.1", service.grpc_port))
            other.listen()
            assert await _refused(service, f"receiver.grpc_port = {service.grpc_port}", "another port")

    async def test_one_port_for_both_is_refused(self, service: Sidespan) -> None:
        service.grpc_port = service.port
        assert await _refused(service, "receiver.grpc_port", "is also server.port")

    async def test_zero_switches_it_off(self, service: Sidespan) -> None:
        await asyncio.to_thread(service.start)
        assert service.health()["parts"]["grpc"]["reason"] == "off: receiver.grpc_port = 0"


async def _refused(service: Sidespan, *said: str) -> bool:
    await asyncio.to_thread(service.start, wait=False)
    assert service.process is not None
    assert await asyncio.to_thread(service.process.wait, 20) == 2
    text = service.log.read_text()
    assert "Traceback" not in text
    return all(each in text for each in said)
