"""A process that delivers from a log on Kafka, for tests that kill it: each entry becomes one dead letter."""

import asyncio
import json
import sys

from tests.support.kafka_logs import KafkaLogPlace, take_all


async def main(told: str) -> None:
    place = KafkaLogPlace(**json.loads(told))
    async with place.open(settles=False) as journal:
        while True:
            await take_all(journal, letters=True, limit_bytes=200)
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
