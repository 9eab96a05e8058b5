"""Calls for some seconds from a process of its own; prints how many were answered with OK.

python -m tests.benchmarks.grpc_load PORT SECONDS IN_FLIGHT
"""

import asyncio
import sys
import time

import grpc
import uvloop

from tests.benchmarks.payloads import body
from tests.support.grpc_calls import TRACES

METADATA = (("x-mlflow-experiment-id", "0"),)


async def _load(port: int, seconds: float, in_flight: int) -> int:
    bodies = [body(1) for _ in range(64)]
    answered = 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(TRACES)
        await call(bodies[0], metadata=METADATA, wait_for_ready=True)
        end = time.monotonic() + seconds

        async def caller(turn: int) -> None:
            nonlocal answered
            while time.monotonic() < end:
                turn += 1
                await call(bodies[turn % len(bodies)], metadata=METADATA)
                answered += 1

        await asyncio.gather(*[caller(turn) for turn in range(in_flight)])
    return answered


if __name__ == "__main__":
    print(uvloop.run(_load(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))))
