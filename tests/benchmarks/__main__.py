"""`make bench`, or `python -m tests.benchmarks acknowledge deliver …` for some of them."""

import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

ALL = (
    "footprint",
    "acknowledge",
    "grpc",
    "guard",
    "formats",
    "index",
    "fast_mlflow",
    "alerts",
    "live",
    "page",
    "deliver",
    "process",
    "forward",
    "proxy",
    "overhead",
    "agents",
    "retention",
)
# those that need java and mvn, or an environment of their own: `make bench-scale`
SCALE = ("replicas", "clickhouse")


def main() -> None:
    names = sys.argv[1:] or ALL
    known = (*ALL, *SCALE)
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no benchmark {unknown[0]!r}; there are {', '.join(known)}")
    if shutil.which("wrk") is None:
        sys.exit("the benchmarks need wrk; on Debian: apt-get install wrk")
    print(f"on {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory(prefix="sidespan-bench-") as directory:
        for name in names:
            importlib.import_module(f"tests.benchmarks.{name}").run(Path(directory))


if __name__ == "__main__":
    main()
