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

# pairs of runs: what one run measures differs by a tenth on an idle machine
PAIRS = 8
SECONDS = 4
# as many as are sent in that time: what comes again is no change, and makes no event
BODIES = 5000
CONNECTIONS = 64
READERS = 50
BAR = 0.90


def run(directory: Path) -> None:
    print("== live traces")
    service = Sidespan(data_dir=directory / "live", mlflow_url=f"http://127.0.0.1:{free_port()}")
    service.start()
    service.wait_index()
    ratios = []
    try:
        _rate(service, write_wrk_script(directory / "first", traces=1, count=BODIES), 0, quiet=True)
        for pair in range(PAIRS):
            rates = {}
            # in turn each of the two goes first
            for readers in (0, READERS) if pair % 2 else (READERS, 0):
                script = write_wrk_script(directory / f"new-{pair}-{readers}", traces=1, count=BODIES)
                service.wait_index()
                rates[readers] = _rate(service, script, readers)
            ratios.append(rates[READERS] / rates[0])
        low, *_, high = ratios = sorted(ratios)
        print(
            f"   {READERS} readers: {statistics.median(ratios):.2f} of the requests without, median of"
            f" {PAIRS} pairs from {low:.2f} to {high:.2f} (bar {BAR:.2f})"
        )
    finally:
        service.stop()


def _rate(service: Sidespan, script: Path, readers: int, *, quiet: bool = False) -> float:
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
    if not quiet:
        print(
            f"   {readers:>2} readers: {rate:,.0f} requests/s, {used * 1e6:,.0f} µs of the service's"
            f" processor for each; they read {int(printed) / 2**20:,.1f} MiB"
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
