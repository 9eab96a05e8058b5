"""A loop that only produces: what Kafka's client and the brokers can do with the same bytes.

    python -m tests.benchmarks.bare_producer HOST:PORT,… PREFIX PARTITIONS SECONDS

prints the records a second that were acknowledged by all copies.
"""

import sys
import time
from typing import Any

from collector.journal.kafka.client import KafkaConnection
from collector.settings import KafkaSettings
from collector.settings.engines import LOG_ENGINES, read_engine_url
from tests.benchmarks.payloads import body

WAITING = 64
BODIES = 64


def main() -> None:
    hosts, prefix, partitions, seconds = sys.argv[1:]
    place = read_engine_url(f"kafka://{hosts}/{prefix}", LOG_ENGINES)
    producer = KafkaConnection(place, KafkaSettings(partitions=int(partitions))).producer()
    print(f"{_rate(producer, f'{prefix}-spans', float(seconds)):.1f}")


def _rate(producer: Any, topic: str, seconds: float) -> float:
    """As many on their way at a time as the load on Sidespan has connections."""
    bodies = [body(1) for _ in range(BODIES)]
    waiting = done = 0

    def acknowledged(error: Any, _: Any) -> None:
        nonlocal waiting, done
        assert error is None, error
        waiting, done = waiting - 1, done + 1

    began = time.monotonic()
    number = 0
    while (elapsed := time.monotonic() - began) < seconds:
        while waiting < WAITING:
            producer.produce(topic, bodies[number % BODIES], key=f"{number:032x}", on_delivery=acknowledged)
            waiting, number = waiting + 1, number + 1
        producer.poll(0.001)
    return done / elapsed


if __name__ == "__main__":
    main()
