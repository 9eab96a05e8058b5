"""Takes spans at MLflow's own pace and costs next to nothing: python -m … PORT SPANS_A_SECOND.

The acknowledgement benchmark needs delivery to run as it would, without a real MLflow taking the cores.
"""

import asyncio
import sys

from aiohttp import web

BYTES_A_SPAN = 34_000 / 6


def app(spans_a_second: float) -> web.Application:
    busy = asyncio.Lock()

    async def experiment(request: web.Request) -> web.Response:
        id = request.query.get("experiment_id", "0")
        return web.json_response(
            {"experiment": {"experiment_id": id, "name": "paced", "lifecycle_stage": "active"}}
        )

    async def traces(request: web.Request) -> web.Response:
        size = len(await request.read())
        async with busy:
            await asyncio.sleep(size / BYTES_A_SPAN / spans_a_second)
        return web.Response(content_type="application/x-protobuf")

    async def version(request: web.Request) -> web.Response:
        return web.Response(text="3.17.2")

    made = web.Application(client_max_size=2**30)
    made.router.add_get("/version", version)
    made.router.add_get("/", version)
    made.router.add_get("/api/2.0/mlflow/experiments/get", experiment)
    made.router.add_post("/v1/traces", traces)
    return made


if __name__ == "__main__":
    web.run_app(app(float(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), print=None)
