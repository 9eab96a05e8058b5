"""What readers of live traces cost: acknowledged requests a second while 50 follow all traces, and without.

Every request holds a new trace. The readers are one process that throws away what it reads, with the lowest
priority: real ones are on other machines.
"""

import os
import selectors
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import psutil

from tests.benchmarks.load import wrk
from tests.benchmarks.payloads import write_wrk_script
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

ROUNDS = 3
SECONDS = 5
# as many as are sent in that time: what comes again is no change, and makes no event
BODIES = 6000
CONNECTIONS = 64
READERS = 50
BAR = 0.90


def run(directory: Path) -> None:
    print("== live traces")
    service = Sidespan(data_dir=directory / "live", mlflow_url=f"http://127.0.0.1:{free_port()}")
    service.start()
    service.wait_index()
    rates: dict[int, list[float]] = {0: [], READERS: []}
    try:
        for round in range(ROUNDS):
            for readers, measured in rates.items():
                script = write_wrk_script(directory / f"new-{round}-{readers}", traces=1, count=BODIES)
                measured.append(_rate(service, script, readers))
                service.wait_index()
        without, with_readers = (statistics.median(each) for each in rates.values())
        print(
            f"   {READERS} readers: {with_readers:,.0f} requests/s, {without:,.0f} without, "
            f"{with_readers / without:.2f} of it (bar {BAR:.2f})"
        )
    finally:
        service.stop()


def _rate(service: Sidespan, script: Path, readers: int) -> float:
    following = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.live", str(service.port), str(readers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    following.stdout.readline()
    assert service.process is not None
    process = psutil.Process(service.process.pid)
    before = process.cpu_times()
    rate = wrk(service.url, script, connections=CONNECTIONS, seconds=SECONDS)
    after = process.cpu_times()
    printed, _ = following.communicate()
    used = (after.user + after.system - before.user - before.system) / (rate * SECONDS)
    print(
        f"   {readers:>2} readers: {rate:,.0f} requests/s, {used * 1e6:,.0f} µs of the service's processor"
        f" for each; they read {int(printed) / 2**20:,.1f} MiB"
    )
    return rate


def follow(port: int, readers: int) -> None:
    """Read all streams until standard input ends; print how many bytes came."""
    os.nice(19)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    for _ in range(readers):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(b"GET /-/traces/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in connection.recv(4096)
        selector.register(connection, selectors.EVENT_READ)
    print("following", flush=True)
    count = 0
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                print(count)
                return
            assert isinstance(key.fileobj, socket.socket)
            count += len(key.fileobj.recv(1 << 18))


if __name__ == "__main__":
    follow(int(sys.argv[1]), int(sys.argv[2]))
