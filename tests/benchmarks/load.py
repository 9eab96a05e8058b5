"""Load on loopback, bounded in count and time."""

import re
import subprocess
import threading
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

HEADERS = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": "0"}


def wrk(url: str, script: Path, *, connections: int, seconds: int) -> float:
    """Requests a second that were answered with 200."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(script), url]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    if refused or rate is None:
        raise RuntimeError(f"the benchmark did not measure what it should:\n{printed}")
    return float(rate[1])


def post_all(url: str, bodies: Sequence[bytes], *, clients: int) -> float:
    """Seconds until `clients` connections have posted all `bodies` and each was answered with 200."""
    todo = iter(bodies)
    lock = threading.Lock()
    failures: list[str] = []

    def client() -> None:
        parts = urlsplit(url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        while True:
            with lock:
                body = next(todo, None)
            if body is None:
                break
            for _ in range(5):
                connection.request("POST", "/v1/traces", body=body, headers=HEADERS)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 200:
                    break
                # MLflow's own answer to two requests that race; an exporter would have lost this trace
                time.sleep(0.05)
            else:
                failures.append(f"{answer.status} {text[:200]!r}")
        connection.close()

    started = time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{len(failures)} requests failed: {failures[0]}")
    return time.monotonic() - started
