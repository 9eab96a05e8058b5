"""A receiver on Kafka beside a loop that only produces: three brokers, all on the same cores.

Needs java and mvn. Nobody reads the log while it is measured.
"""

import asyncio
import os
import statistics
import subprocess
import sys
from pathlib import Path

from collector.journal.kafka.client import KafkaConnection
from collector.journal.kafka.topics import prepare_topics
from collector.settings import KafkaSettings
from collector.settings.engines import LOG_ENGINES, read_engine_url
from tests.benchmarks.load import wrk
from tests.benchmarks.payloads import SPANS_A_TRACE, body, write_wrk_script
from tests.benchmarks.steady import SteadyLoad
from tests.support.kafka_brokers import kafka
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

ROUNDS = 3
SECONDS = 5
PARTITIONS = 12
CONNECTIONS = 64


def run(directory: Path) -> None:
    print("== a receiver on Kafka, 3 brokers on the same cores, 34 kB requests")
    with kafka(directory / "kafka", count=3) as brokers:
        hosts = ",".join(brokers.hosts)
        place = read_engine_url(f"kafka://{hosts}/bare", LOG_ENGINES)
        prepare_topics(KafkaConnection(place, KafkaSettings(partitions=PARTITIONS)))
        service = _receiver(directory, hosts)
        service.start()
        try:
            began = _cpu_seconds(service)
            bare, ours = _rates(directory, hosts, service)
            cpu = (_cpu_seconds(service) - began) / (ours * SECONDS * ROUNDS)
            steady = SteadyLoad(service.port, [body(1) for _ in range(64)], CONNECTIONS)
            p50, p99 = asyncio.run(steady.run(per_second=ours / 2, seconds=SECONDS))
        finally:
            service.stop()
    print(f"   a loop that only produces {bare * SPANS_A_TRACE:>26,.0f} spans/s")
    print(f"   Sidespan {ours * SPANS_A_TRACE:>43,.0f} spans/s   {ours / bare:.2f} of it (bar 0.4)")
    print(f"   a request takes {cpu * 1e6:,.0f} us of a core: {SPANS_A_TRACE / cpu:,.0f} spans/s a core")
    print(f"   at half that load: {p50:.1f} ms, p99 {p99:.1f} ms (bar 50)")


def _receiver(directory: Path, hosts: str) -> Sidespan:
    return Sidespan(
        data_dir=directory / "none",
        mlflow_url=f"http://127.0.0.1:{free_port()}",
        arguments=("--role", "receive"),
        environment={
            "SIDESPAN_JOURNAL__URL": f"kafka://{hosts}/bench",
            "SIDESPAN_INDEX__ENABLED": "false",
            "SIDESPAN_KAFKA__PARTITIONS": str(PARTITIONS),
            "SIDESPAN_LOG__REQUESTS_TO": "stdout",
        },
    )


def _cpu_seconds(service: Sidespan) -> float:
    """What the receiver has used of the processor. Source: proc(5), /proc/PID/stat, utime and stime."""
    assert service.process is not None
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rates(directory: Path, hosts: str, service: Sidespan) -> tuple[float, float]:
    """Requests/s of the loop and of Sidespan: medians of alternating rounds."""
    script = write_wrk_script(directory / "bodies", traces=1, count=64)
    loop = [sys.executable, "-m", "tests.benchmarks.bare_producer", hosts, "bare", str(PARTITIONS)]
    bare, ours = [], []
    for _ in range(ROUNDS):
        printed = subprocess.run([*loop, str(SECONDS)], capture_output=True, text=True, check=True).stdout
        bare.append(float(printed))
        ours.append(wrk(service.url, script, connections=CONNECTIONS, seconds=SECONDS))
    return statistics.median(bare), statistics.median(ours)
