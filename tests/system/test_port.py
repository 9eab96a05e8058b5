"""Our own port: bounds on what a client sends and how slowly, https, a path to be published under."""

import json
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2 as _details  # noqa: F401 (json_format looks types up by name)
from google.rpc.status_pb2 import Status

from collector.otlp.media import Encoding
from tests.support.certificates import certificates_in
from tests.support.grpc_calls import TRACES
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import export
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan
from tests.support.timing import patient, within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sidespan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidespan]:
    """In front of nothing: what is tested here ends before MLflow."""
    found = Sidespan(tmp_path_factory.mktemp("port") / "data", "http://127.0.0.1:9", index=False)
    found.environment = {
        "SIDESPAN_SERVER__HEADER_TIMEOUT_SECONDS": "2",
        "SIDESPAN_SERVER__BODY_TIMEOUT_SECONDS": "2",
        "SIDESPAN_SERVER__MAX_HEAD_BYTES": "8192",
        "SIDESPAN_SERVER__MAX_HEADERS": "20",
    }
    found.start()
    yield found
    found.stop()


def talk(sidespan: Sidespan, *pieces: bytes, pause: float = 0.0, seconds: float = 8.0) -> tuple[bytes, float]:
    """What is answered until the connection ends, and after how long; b'...' at the end: it didn't."""
    started = time.monotonic()
    answer = b""
    with socket.create_connection(("127.0.0.1", sidespan.port), timeout=seconds) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            while chunk := connection.recv(65536):
                answer += chunk
        except TimeoutError:
            answer += b"..."
        except OSError:
            pass
    return answer, time.monotonic() - started


OTLP = b"POST /v1/traces HTTP/1.1\r\n"
HOST = b"host: localhost\r\n"
GET = b"GET /-/healthy HTTP/1.1\r\n"
LAST = b"connection: close\r\n\r\n"
HEAD = b"GET /-/healthy HTTP/1.1\r\nhost: localhost\r\n"


class TestHeads:
    def test_a_large_head_is_431(self, sidespan: Sidespan) -> None:
        answer, _ = talk(sidespan, HEAD + b"x-a: " + b"a" * 9000 + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431")
        assert b"8192 bytes" in answer

    def test_so_is_one_that_never_ends(self, sidespan: Sidespan) -> None:
        answer, _ = talk(sidespan, HEAD + b"x-a: " + b"a" * 9000)
        assert answer.startswith(b"HTTP/1.1 431")

    def test_and_a_long_request_line(self, sidespan: Sidespan) -> None:
        answer, _ = talk(sidespan, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431")

    def test_too_many_headers_are_431(self, sidespan: Sidespan) -> None:
        answer, _ = talk(sidespan, HEAD + b"".join(b"x-%d: a\r\n" % n for n in range(30)) + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 431")
        assert b"20 headers" in answer

    @pytest.mark.parametrize(
        "endless",
        [b"0\r\nx-late: ", b"0\r\n" + b"x-a: b\r\n" * 9000, b"5;extension="],
        ids=["trailer", "trailers", "extension"],
    )
    def test_so_is_what_a_body_in_chunks_has_beside_its_content(
        self, sidespan: Sidespan, endless: bytes
    ) -> None:
        head = OTLP + HOST + b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        answer, _ = talk(sidespan, head + b"2\r\n{}\r\n" + endless, *[b"x" * 3000] * 4, pause=0.05)
        assert answer.startswith(b"HTTP/1.1 431")

    def test_large_bodies_in_chunks_of_any_size_are_fine(self, sidespan: Sidespan) -> None:
        head = OTLP + HOST + b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        chunks = [
            b"1\r\n{\r\n",
            *[b"%x\r\n%b\r\n" % (size, b" " * size) for size in (1, 9000, 70_000, 300_000)],
        ]
        answer, _ = talk(
            sidespan, head, *chunks, b"1;x=y\r\n}\r\n0\r\nx-late: 1\r\n\r\n", HEAD + LAST, pause=0.02
        )
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.count(b"HTTP/1.1 200") == 2

    def test_a_second_request_has_bounds_too(self, sidespan: Sidespan) -> None:
        answer, _ = talk(sidespan, HEAD + b"\r\n", HEAD + b"x-a: " + b"a" * 9000 + b"\r\n\r\n", pause=0.1)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 431" in answer

    def test_many_small_requests_on_one_connection_are_fine(self, sidespan: Sidespan) -> None:
        small = HEAD + b"x-a: " + b"a" * 1000 + b"\r\n"
        answer, _ = talk(sidespan, *[small + b"\r\n"] * 39, small + LAST, pause=0.005)
        assert answer.count(b"HTTP/1.1 200") == 40


class TestHost:
    """RFC 9112, section 3.2."""

    @pytest.mark.parametrize(
        "hosts",
        [b"", HOST + HOST, HOST + b"HOST: evil.example\r\n", b"host: a b\r\n", b"host: a/b\r\n",
         b"host: a@b\r\n", b"host: a:b\r\n", b"host: [::1\r\n", b"host: h\xc3\xa4\r\n"],
        ids=["none", "two", "two_different", "space", "path", "user", "port", "bracket", "umlaut"],
    )  # fmt: skip
    @pytest.mark.parametrize("line", [GET, b"GET /version HTTP/1.1\r\n", OTLP], ids=["own", "mlflow", "otlp"])
    def test_one_host_is_asked_for(self, sidespan: Sidespan, line: bytes, hosts: bytes) -> None:
        answer, _ = talk(sidespan, line + hosts + LAST)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"Host" in answer

    @pytest.mark.parametrize(
        "request_bytes",
        [GET + b"host: 127.0.0.1:4318\r\n", GET + b"host: [::1]:4318\r\n",
         GET.replace(b"1.1", b"1.0") + HOST],
        ids=["address", "ipv6", "http_1_0"],
    )  # fmt: skip
    def test_names_and_addresses_pass(self, sidespan: Sidespan, request_bytes: bytes) -> None:
        answer, _ = talk(sidespan, request_bytes + LAST)
        assert answer.startswith(b"HTTP/1.1 200")

    def test_http_1_0_needs_none(self, sidespan: Sidespan) -> None:
        answer, _ = talk(
            sidespan,
            b"POST /v1/traces HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        )
        assert answer.startswith(b"HTTP/1.1 200")


class TestRefusalsInTheFormOfOtlp:
    """The body of every 4xx is a Status in the request's encoding (https://opentelemetry.io/docs/specs/otlp/#otlphttp-response)."""

    REFUSED = {
        "large_head": (b"x-a: " + b"a" * 9000 + b"\r\n\r\n", 431),
        "endless_head": (b"x-a: " + b"a" * 9000, 431),
        "many_headers": (b"".join(b"x-%d: a\r\n" % n for n in range(30)) + b"\r\n", 431),
        "slow_head": (b"x-a: b\r\n", 408),
        "second_host": (HOST + b"\r\n", 400),
        "no_http": (b"content-length: x\r\n\r\n", 400),
        "broken_chunks": (b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    }

    @pytest.mark.parametrize("encoding", list(Encoding))
    @pytest.mark.parametrize("name", REFUSED)
    def test_a_status_is_what_is_answered(self, sidespan: Sidespan, name: str, encoding: Encoding) -> None:
        rest, status = self.REFUSED[name]
        content_type = b"content-type: %b; charset=utf-8\r\n" % encoding.value.encode()
        answer, _ = talk(sidespan, OTLP + HOST + content_type + rest)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d" % status)
        assert b"content-type: %b\r\n" % encoding.value.encode() in head
        read = Status.FromString if encoding is Encoding.PROTOBUF else _status_from_json
        assert read(body).message
        assert (status == 400) == bool(read(body).details)

    def test_other_paths_are_answered_as_mlflow_does(self, sidespan: Sidespan) -> None:
        answer, _ = talk(
            sidespan, HEAD + b"content-type: application/x-protobuf\r\n" + b"x-a: a\r\n" * 30 + b"\r\n"
        )
        assert b'"error_code": "BAD_REQUEST"' in answer


def _status_from_json(body: bytes) -> Status:
    return json_format.Parse(body, Status())


class TestExportsAtTheWrongPath:
    """OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is used as it is; to the other setting SDKs add /v1/traces."""

    @pytest.mark.parametrize(
        ("path", "encoding"),
        [
            ("/", Encoding.PROTOBUF),
            ("/", Encoding.JSON),
            ("/v1/traces/v1/traces", Encoding.PROTOBUF),
            ("/v1/traces/v1/traces", Encoding.JSON),
            ("/otlp/v1/traces/", Encoding.JSON),
            ("/v1/trace", Encoding.PROTOBUF),
            ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", Encoding.PROTOBUF),
        ],
    )
    def test_are_told_the_right_one(self, sidespan: Sidespan, path: str, encoding: Encoding) -> None:
        sent = export().SerializeToString() if encoding is Encoding.PROTOBUF else b"{}"
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {encoding.value}\r\n".encode()
        answer, _ = talk(sidespan, head + b"content-length: %d\r\n" % len(sent) + LAST + sent)
        answered, _, body = answer.partition(b"\r\n\r\n")
        assert answered.startswith(b"HTTP/1.1 404")
        read = Status.FromString if encoding is Encoding.PROTOBUF else _status_from_json
        assert f"{path} takes no telemetry, /v1/traces does" in read(body).message
        assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in read(body).message

    def test_other_requests_there_are_mlflows(self, sidespan: Sidespan) -> None:
        answer, _ = talk(sidespan, b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 0\r\n" + LAST)
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"\r\nallow: GET" in answer
        assert b"telemetry" not in answer


class TestRefusalsWaitTheirTurn:
    EXPORT = OTLP + HOST + b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

    @pytest.mark.parametrize(
        ("bad", "status"),
        [
            (HEAD + b"x-a: " + b"a" * 9000 + b"\r\n\r\n", 431),
            (GET + b"\r\n", 400),
            (b"no http\r\n\r\n", 400),
            (OTLP + HOST + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        ],
        ids=["large_head", "no_host", "no_http", "broken_chunks"],
    )
    @pytest.mark.parametrize("before", [1, 3])
    def test_behind_requests_that_are_still_worked_on(
        self, sidespan: Sidespan, before: int, bad: bytes, status: int
    ) -> None:
        answer, _ = talk(sidespan, self.EXPORT * before + bad + self.EXPORT)
        found = [int(code) for code in re.findall(rb"HTTP/1.1 (\d+)", answer)]
        assert found == [200] * before + [status]


def test_a_path_of_our_own_reads_the_body_behind_an_upgrade(sidespan: Sidespan) -> None:
    head = (
        b"POST /-/dead-letters/retry HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
    )
    answer, _ = talk(sidespan, head + b"content-length: 10\r\n\r\n", b'{"ids": 1}', HEAD + LAST, pause=0.1)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"parameter":"ids"' in answer
    assert b"HTTP/1.1 200" in answer


class TestSlowness:
    @patient
    def test_a_head_that_does_not_come_is_408(self, sidespan: Sidespan) -> None:
        with within(5, processes=sidespan.processes()):
            answer, _ = talk(sidespan, HEAD)
        assert answer.startswith(b"HTTP/1.1 408")

    @patient
    def test_a_head_that_drips_is_408(self, sidespan: Sidespan) -> None:
        with within(6.5, processes=sidespan.processes()):
            answer, _ = talk(sidespan, HEAD, *[b"x"] * 20, pause=0.2)
        assert b"HTTP/1.1 408" in answer or answer == b""

    @patient
    def test_a_connection_that_says_nothing_is_closed(self, sidespan: Sidespan) -> None:
        with within(5, processes=sidespan.processes()):
            answer, _ = talk(sidespan)
        assert answer == b""

    @pytest.mark.parametrize("path", [b"/api/2.0/mlflow/runs/search", b"/-/dead-letters/retry"])
    @patient
    def test_a_body_that_stops_ends_the_connection(self, sidespan: Sidespan, path: bytes) -> None:
        head = (
            b"POST "
            + path
            + b" HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
        )
        with within(5.5, processes=sidespan.processes()):
            answer, _ = talk(sidespan, head + b"{")
        assert not answer.endswith(b"...")

    def test_a_body_that_drips_within_the_bound_is_taken(self, sidespan: Sidespan) -> None:
        body = b'{"ids": [1]}'
        head = b"POST /-/dead-letters/retry HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        head += b"content-length: 12\r\n\r\n"
        answer, _ = talk(sidespan, head, *[body[n : n + 1] for n in range(len(body))], pause=0.25)
        assert answer.startswith(b"HTTP/1.1 200")

    @patient
    def test_others_are_answered_meanwhile(self, sidespan: Sidespan) -> None:
        idle = [socket.create_connection(("127.0.0.1", sidespan.port)) for _ in range(200)]
        for each in idle:
            each.sendall(HEAD)
        try:
            with within(1):
                answer, _ = talk(sidespan, HEAD + b"connection: close\r\n\r\n")
        finally:
            for each in idle:
                each.close()
        assert answer.startswith(b"HTTP/1.1 200")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates_in(tmp_path_factory.mktemp("certificates"))


def _exports_over_grpc(found: Sidespan, credentials: grpc.ChannelCredentials | None) -> str:
    """The code by which a call with these credentials ends."""
    target = f"localhost:{found.grpc_port}"
    channel = (
        grpc.insecure_channel(target) if credentials is None else grpc.secure_channel(target, credentials)
    )
    with channel:
        try:
            channel.unary_unary(TRACES)(export(spans=1).SerializeToString(), timeout=10)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def test_https_is_spoken_where_a_certificate_is_set(authority: Path, tmp_path: Path) -> None:
    found = Sidespan(tmp_path / "data", "http://127.0.0.1:9", grpc_port=free_port(), index=False)
    found.environment = {
        "SIDESPAN_SERVER__TLS_CERTIFICATE_FILE": str(authority / "server.pem"),
        "SIDESPAN_SERVER__TLS_KEY_FILE": str(authority / "server.key"),
    }
    found.start(wait=False)
    try:
        context = ssl.create_default_context(cafile=str(authority / "ca.pem"))
        url = f"https://localhost:{found.port}"
        _until_open(found.port)
        request = urllib.request.Request(
            f"{url}/v1/traces",
            data=export(spans=1).SerializeToString(),
            headers={"content-type": "application/x-protobuf"},
        )
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"{url}/-/ready", timeout=60, context=context) as answer:
            assert json.loads(answer.read())["parts"]["delivery"]["pending_spans"] == 1
        trusting = grpc.ssl_channel_credentials((authority / "ca.pem").read_bytes())
        assert _exports_over_grpc(found, trusting) == "OK"
        assert _exports_over_grpc(found, None) == "UNAVAILABLE"
        assert f"https://127.0.0.1:{found.port}" in found.log.read_text()
    finally:
        assert found.stop() == 0


def test_a_client_certificate_can_be_asked_for(authority: Path, tmp_path: Path) -> None:
    found = Sidespan(tmp_path / "data", "http://127.0.0.1:9", grpc_port=free_port(), index=False)
    found.environment = {
        "SIDESPAN_SERVER__TLS_CERTIFICATE_FILE": str(authority / "server.pem"),
        "SIDESPAN_SERVER__TLS_KEY_FILE": str(authority / "server.key"),
        "SIDESPAN_SERVER__TLS_CLIENT_CA_FILE": str(authority / "ca.pem"),
    }
    found.start(wait=False)
    try:
        url = f"https://localhost:{found.port}/-/healthy"
        _until_open(found.port)
        without = ssl.create_default_context(cafile=str(authority / "ca.pem"))
        with pytest.raises(OSError):
            urllib.request.urlopen(url, timeout=60, context=without)
        own = ssl.create_default_context(cafile=str(authority / "ca.pem"))
        own.load_cert_chain(authority / "client.pem", authority / "client.key")
        with urllib.request.urlopen(url, timeout=60, context=own) as answer:
            assert answer.status == 200
        ca, key, certificate = (
            (authority / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem")
        )
        assert _exports_over_grpc(found, grpc.ssl_channel_credentials(ca)) == "UNAVAILABLE"
        assert _exports_over_grpc(found, grpc.ssl_channel_credentials(ca, key, certificate)) == "OK"
    finally:
        assert found.stop() == 0


def test_a_certificate_that_cannot_be_used_stops_the_start(authority: Path, tmp_path: Path) -> None:
    found = Sidespan(tmp_path / "data", "http://127.0.0.1:9", index=False)
    found.environment = {
        "SIDESPAN_SERVER__TLS_CERTIFICATE_FILE": str(authority / "server.pem"),
        "SIDESPAN_SERVER__TLS_KEY_FILE": str(authority / "client.key"),
    }
    found.start(wait=False)
    assert found.process is not None
    assert found.process.wait(timeout=60) == 2
    assert "server.tls_certificate_file" in found.log.read_text()


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)


def test_everything_works_under_a_path(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    found = Sidespan(tmp_path / "data", mlflow_server.url)
    found.environment = {"SIDESPAN_SERVER__ROOT_PATH": "/mlflow/"}
    found.start()
    try:
        experiment = mlflow_server.create_experiment("under a path")
        for prefix in ("/mlflow", ""):
            base = found.url + prefix
            request = urllib.request.Request(
                f"{base}/v1/traces",
                data=export(spans=1).SerializeToString(),
                headers={"content-type": "application/x-protobuf", "x-mlflow-experiment-id": experiment},
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.status == 200
            for path in (
                "/",
                "/version",
                "/-/ready",
                "/-/",
                f"/api/2.0/mlflow/experiments/get?experiment_id={experiment}",
            ):
                with urllib.request.urlopen(base + path, timeout=60) as answer:
                    assert answer.status == 200, base + path
        with urllib.request.urlopen(f"{found.url}/mlflow", timeout=60) as answer:
            assert answer.url.endswith("/mlflow/"), "addresses in the page are relative to a folder"
        for path in (b"/mlflowx/version", b"/mlflow//version", b"/mlflow/%2e%2e/version"):
            answer, _ = talk(
                found, b"GET " + path + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            )
            assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 403"), path
    finally:
        found.stop()


async def test_mlflows_page_works_under_a_path(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    from playwright.async_api import Response, async_playwright

    mlflow_server.create_experiment("seen under a path")
    found = Sidespan(tmp_path / "data", mlflow_server.url)
    found.environment = {"SIDESPAN_SERVER__ROOT_PATH": "/mlflow"}
    found.start()
    found.wait_index()  # our page asks it
    lost: list[str] = []

    def note(response: Response) -> None:
        if response.status == 404 or response.status >= 500 or "/mlflow/" not in response.url:
            lost.append(f"{response.status} {response.url}")

    try:
        async with async_playwright() as play:
            arguments = ["--no-sandbox", "--disable-gpu"]
            browser = await play.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
            page = await browser.new_page()
            page.on("response", note)
            await page.goto(f"{found.url}/mlflow/#/experiments")
            await page.get_by_text("seen under a path").first.wait_for()
            made = await page.evaluate(
                """async () => (await fetch('ajax-api/2.0/mlflow/experiments/create', {
                    method: 'POST', headers: {'content-type': 'application/json'},
                    body: JSON.stringify({name: 'made under a path'})})).status"""
            )
            await page.goto(f"{found.url}/mlflow/-/")
            await page.get_by_text("Sidespan").first.wait_for()
            await page.wait_for_timeout(500)
            await browser.close()
    finally:
        found.stop()
    assert made == 200
    assert lost == []
