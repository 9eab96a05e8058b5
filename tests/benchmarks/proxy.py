"""The proxy with its policy on, beside Caddy without one: requests/s, MB/s, time added, memory.

Client, proxy and upstream share the machine. The fast upstream is Caddy too, from memory and files.
"""

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.load import wrk
from tests.support.mlflow_server import MlflowServer
from tests.support.ports import free_port
from tests.support.proxied import tokens_for
from tests.support.sidespan import Sidespan

ROUNDS = 3
SECONDS = 4
CALLS = 300
FILE_MEBIBYTES = 64
STREAM_MEBIBYTES = 2048
GET = "/api/2.0/mlflow/experiments/get?experiment_id=1"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts"
POLICY = """
[auth]
mode = "clients"
[policy.clients]
anna = ["standard"]
bert = ["team"]
[[policy.roles.team]]
preset = "standard"
experiments = ["team/*"]
"""


def run(directory: Path) -> None:
    if shutil.which("caddy") is None:
        sys.exit("this benchmark needs caddy; on Debian: apt-get install caddy")
    print("== the proxy, policy on, beside Caddy 2 as reverse proxy")
    with ExitStack() as stack:
        upstream = stack.enter_context(_caddy(directory / "upstream", _static(directory / "files")))
        caddy = stack.enter_context(_caddy(directory / "peer", f"reverse_proxy {upstream}"))
        ours = stack.enter_context(_sidespan(directory / "fast", upstream))
        _requests(directory, {"directly": upstream, "Caddy": caddy, "Sidespan": ours.url}, ours)
        _megabytes(directory, {"directly": upstream, "Caddy": caddy, "Sidespan": ours.url}, ours)
    _added(directory)
    _memory(directory)


class _Tokens:
    """The clients of the running service; a header line for each."""

    def __init__(self, file: Path) -> None:
        self.by_name = tokens_for(file, "anna", "bert")

    def header(self, name: str) -> str:
        return f"Bearer {self.by_name[name]}"


_tokens: dict[int, _Tokens] = {}


def _requests(directory: Path, urls: dict[str, str], ours: Sidespan) -> None:
    rates = _alternate(urls, lambda url, rates: rates.append(_wrk_rate(directory, url + GET, ours, "anna")))
    limited = [_wrk_rate(directory, ours.url + GET, ours, "bert") for _ in range(ROUNDS)]
    peer = rates["Caddy"]
    for name, rate in rates.items():
        print(
            f"   requests/s, a small answer, {name:<10} {rate:>9,.0f}   {rate / peer:.2f} of Caddy (bar 0.30)"
        )
    rate = statistics.median(limited)
    print(f"   the same, a client limited to experiments  {rate:>9,.0f}   {rate / peer:.2f} of Caddy")


def _megabytes(directory: Path, urls: dict[str, str], ours: Sidespan) -> None:
    target = f"{ARTIFACT}/{FILE_MEBIBYTES}"
    rates = _alternate(
        urls,
        lambda url, found: found.append(
            FILE_MEBIBYTES * 1.048576 * _wrk_rate(directory, url + target, ours, "anna", connections=4)
        ),
    )
    for name, rate in rates.items():
        share = f"{rate / rates['Caddy']:.2f} of Caddy (bar 0.6)"
        print(f"   MB/s, a file of {FILE_MEBIBYTES} MiB, {name:<10} {rate:>9,.0f}   {share}")


def _alternate(urls: dict[str, str], measure) -> dict[str, float]:  # type: ignore[no-untyped-def]
    found: dict[str, list[float]] = {name: [] for name in urls}
    for _ in range(ROUNDS):
        for name, url in urls.items():
            measure(url, found[name])
    return {name: statistics.median(rates) for name, rates in found.items()}


def _wrk_rate(directory: Path, url: str, ours: Sidespan, client: str, *, connections: int = 64) -> float:
    script = directory / f"{client}.lua"
    script.write_text(f'wrk.headers["authorization"] = "{_tokens[id(ours)].header(client)}"\n')
    return wrk(url, script=script, seconds=SECONDS, connections=connections)


def _added(directory: Path) -> None:
    """The median of one call after the other on a real MLflow, in turns."""
    server = MlflowServer(directory=_made(directory / "mlflow"))
    server.start()
    try:
        experiment = server.create_experiment("team/one")
        path = GET.replace("experiment_id=1", f"experiment_id={experiment}")
        with ExitStack() as stack:
            caddy = stack.enter_context(_caddy(directory / "peer-2", f"reverse_proxy {server.url}"))
            ours = stack.enter_context(_sidespan(directory / "real", server.url))
            ways = {
                "directly": (server.url, "anna"),
                "Caddy": (caddy, "anna"),
                "Sidespan": (ours.url, "anna"),
                "Sidespan, limited": (ours.url, "bert"),
            }
            times = _in_turns(ways, path, _tokens[id(ours)])
    finally:
        server.stop()
    direct = times["directly"]
    for name, seconds in times.items():
        print(
            f"   experiments/get on a real MLflow, {name:<18} {seconds * 1000:>6.2f} ms   "
            f"{(seconds - direct) * 1000:+.2f} ms (bar +1)"
        )


def _in_turns(ways: dict[str, tuple[str, str]], path: str, tokens: _Tokens) -> dict[str, float]:
    connections = {
        name: http.client.HTTPConnection(urlsplit(url).netloc, timeout=30) for name, (url, _) in ways.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(CALLS):
        for name, (_, client) in ways.items():
            started = time.perf_counter()
            connections[name].request("GET", path, headers={"authorization": tokens.header(client)})
            answer = connections[name].getresponse()
            answer.read()
            taken[name].append(time.perf_counter() - started)
            if answer.status != 200:
                raise RuntimeError(f"{name}: {answer.status}")
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _memory(directory: Path) -> None:
    port = free_port()
    upstream = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.files", str(port)])
    try:
        _wait_for(f"http://127.0.0.1:{port}/0")
        with _sidespan(directory / "memory", f"http://127.0.0.1:{port}") as ours:
            header = _tokens[id(ours)].header("anna")
            _download(ours, header, 16)
            _upload(ours, header, 16)
            before = ours.rss_bytes()
            started = time.monotonic()
            _download(ours, header, STREAM_MEBIBYTES)
            down = time.monotonic() - started
            _upload(ours, header, STREAM_MEBIBYTES)
            up = time.monotonic() - started - down
            grown = (ours.rss_bytes() - before) / 2**20
    finally:
        upstream.terminate()
        upstream.wait()
    size = STREAM_MEBIBYTES * 1.048576
    print(
        f"   2 GiB down at {size / down:,.0f} MB/s and up at {size / up:,.0f} MB/s: "
        f"the process grew by {grown:.1f} MiB (bar 30)"
    )


def _download(ours: Sidespan, header: str, mebibytes: int) -> None:
    request = urllib.request.Request(f"{ours.url}{ARTIFACT}/{mebibytes}", headers={"authorization": header})
    size = 0
    with urllib.request.urlopen(request, timeout=300) as answer:
        while chunk := answer.read(1024 * 1024):
            size += len(chunk)
    if size != mebibytes * 2**20:
        raise RuntimeError(f"{size} bytes came")


def _upload(ours: Sidespan, header: str, mebibytes: int) -> None:
    def chunks() -> Iterator[bytes]:
        chunk = b"y" * 2**20
        for _ in range(mebibytes):
            yield chunk

    request = urllib.request.Request(
        f"{ours.url}{ARTIFACT}/up",
        data=chunks(),
        method="PUT",
        headers={"authorization": header, "content-length": str(mebibytes * 2**20)},
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        if json.loads(answer.read())["bytes"] != mebibytes * 2**20:
            raise RuntimeError("not all of it arrived")


@contextmanager
def _sidespan(data_dir: Path, upstream: str) -> Iterator[Sidespan]:
    config = data_dir.with_suffix(".toml")
    config.write_text(POLICY)
    service = Sidespan(data_dir=data_dir, mlflow_url=upstream)
    service.arguments = ("--config", str(config))
    _tokens[id(service)] = _Tokens(data_dir / "tokens.json")
    service.start()
    try:
        yield service
    finally:
        service.stop()


def _static(folder: Path) -> str:
    """A Caddyfile's lines: one small answer, and a file."""
    file = _made(folder / ARTIFACT.strip("/")) / str(FILE_MEBIBYTES)
    file.write_bytes(os.urandom(2**20) * FILE_MEBIBYTES)
    body = json.dumps({"experiment": {"experiment_id": "1", "name": "team/one", "lifecycle_stage": "active"}})
    files = f"handle /api/2.0/mlflow-artifacts/* {{\nroot * {folder}\nfile_server\n}}\n"
    return files + f"handle {{\nrespond `{body}`\n}}"


@contextmanager
def _caddy(home: Path, lines: str) -> Iterator[str]:
    """Caddy with these lines for its only site; yields its address."""
    port = free_port()
    file = _made(home) / "Caddyfile"
    file.write_text(f"{{\n admin off\n auto_https off\n}}\nhttp://127.0.0.1:{port} {{\n{lines}\n}}\n")
    process = subprocess.Popen(
        ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing answers at {url}")


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
