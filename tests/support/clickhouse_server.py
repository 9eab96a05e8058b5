"""A real ClickHouse engine as a child process: its HTTP and native ports on loopback, data in a folder.

The engine is chdb's, from its wheel, in an environment of its own (chdb.lock): it is 400 MB, and not a part
of the service. Tables with copies stay read-only in it, so replication can't be tested with it.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from collector.index.clickhouse import open_clickhouse_index
from collector.index.protocol import Index
from collector.journal import Consumer
from collector.settings import ClickhouseSettings, EnginePlace, IndexSettings
from collector.settings.engines import INDEX_ENGINES, read_engine_url
from tests.support.children import mortal
from tests.support.ports import free_port

LOCK = Path(__file__).with_name("chdb.lock")
START_SECONDS = 180
CLUSTER = "two_shards"
# the call that serves is private to this version, which the lock names
SERVE = """
import sys
from chdb import _chdb
_chdb.query(
    "SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; SELECT sleepEachRow(1) FROM system.numbers SETTINGS "
    "max_block_size=1, function_sleep_max_microseconds_per_block=0 FORMAT Null",
    "TabSeparated",
    path=sys.argv[1],
)
"""


@cache
def chdb_python() -> str:
    """The Python of an environment with chdb; made on first use in the user's cache."""
    if given := os.environ.get("SIDESPAN_TEST_CHDB_PYTHON"):
        return given
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "sidespan-tests" / f"chdb-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        options = ("--disable-pip-version-check", "--quiet", "--no-deps", "--require-hashes")
        subprocess.run([str(python), "-m", "pip", "install", *options, "-r", str(LOCK)], check=True)
        (folder / ".installed").touch()
    return str(python)


@dataclass
class ClickhouseServer:
    """One server; start() after kill() keeps its ports and its data."""

    folder: Path
    shards: Sequence["ClickhouseServer"] = ()
    # a users.xml; without one, everybody is the user `default`, who has no password
    users: str | None = None
    http_port: int = field(default_factory=free_port)
    tcp_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.http_port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.xml").write_text(self._config(), encoding="utf-8")
        if self.users is not None:
            (self.folder / "users.xml").write_text(self.users, encoding="utf-8")
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                mortal([chdb_python(), "-c", SERVE, str(self.folder / "data")]),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self._wait()

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def query(self, sql: str) -> str:
        """Straight to it, past the client that is tested."""
        with urllib.request.urlopen(f"http://{self.host}/", data=sql.encode(), timeout=60) as answer:
            return str(answer.read().decode())

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.query("SELECT 1")
                return
            except OSError:
                assert self.process is not None
                ended = self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    log = (self.folder / "server.log").read_text(errors="replace")
                    raise AssertionError(f"ClickHouse has not started: {log[-2000:]}") from None
                time.sleep(0.02)

    def _config(self) -> str:
        shards = "".join(
            f"<shard><replica><host>127.0.0.1</host><port>{each.tcp_port}</port></replica></shard>"
            for each in self.shards
        )
        servers = f"<remote_servers><{CLUSTER}>{shards}</{CLUSTER}></remote_servers>" if shards else ""
        users = "<users_config>users.xml</users_config>" if self.users is not None else ""
        return (
            f"<clickhouse>{users}<listen_host>127.0.0.1</listen_host><http_port>{self.http_port}</http_port>"
            f"<tcp_port>{self.tcp_port}</tcp_port>{servers}</clickhouse>"
        )


@dataclass(frozen=True, kw_only=True)
class ClickhouseStage:
    """Servers, and a name for a database of its own for each test."""

    servers: Sequence[ClickhouseServer]
    cluster: str | None = None

    def place(self, database: str | None = None) -> EnginePlace:
        """A database that is new, unless it is named."""
        hosts = ",".join(server.host for server in self.servers)
        name = database or f"t{uuid4().hex}"
        return read_engine_url(f"clickhouse://{hosts}/{name}", INDEX_ENGINES)


@contextmanager
def clickhouse_stage(folder: Path, *, shards: int = 1) -> Iterator[ClickhouseStage]:
    """One server, or a cluster of several shards, until the block ends."""
    servers = [ClickhouseServer(folder / f"shard-{number}") for number in range(shards)]
    with ExitStack() as stack:
        for server in servers:
            server.shards = servers if shards > 1 else ()
            stack.callback(server.kill)
            server.start()
        yield ClickhouseStage(servers=servers, cluster=CLUSTER if shards > 1 else None)


def open_on(
    servers: ClickhouseStage,
    consumer: Consumer | None,
    *,
    place: EnginePlace | None = None,
    index: IndexSettings | None = None,
    **settings: Any,
) -> AbstractAsyncContextManager[Index]:
    """The index in a new database of these servers."""
    given = ClickhouseSettings(cluster=servers.cluster, **settings)
    return open_clickhouse_index(
        place or servers.place(), given, index or IndexSettings(processes=1, max_age_seconds=1e9), consumer
    )
