"""How soon the service is ready and how much memory it takes when idle."""

import statistics
import time
from pathlib import Path

from tests.support.ports import free_port
from tests.support.sidespan import Sidespan


def run(directory: Path) -> None:
    seconds, sizes, indexes = [], [], []
    for number in range(5):
        service = Sidespan(
            data_dir=directory / f"idle-{number}", mlflow_url=f"http://127.0.0.1:{free_port()}"
        )
        started = time.monotonic()
        service.start()
        seconds.append(time.monotonic() - started)
        time.sleep(0.5)
        sizes.append(service.rss_bytes())
        service.wait_index()
        indexes.append(service.children_rss_bytes())
        service.stop()
    print("== footprint (median of 5 starts)")
    print(f"   ready after {statistics.median(seconds):.2f} s (bar 1.5), ", end="")
    print(f"idle at {statistics.median(sizes) / 2**20:.0f} MiB RSS (bar 120), ", end="")
    print(f"the index's process at {statistics.median(indexes) / 2**20:.0f} MiB")
