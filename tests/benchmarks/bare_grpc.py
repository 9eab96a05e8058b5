"""The ceiling over gRPC: a generic handler under grpc.aio that throws the message away."""

import asyncio
import sys
from typing import Any

import grpc
import uvloop

from tests.support.grpc_calls import TRACES


class Away(grpc.GenericRpcHandler):
    def service(self, handler_call_details: Any) -> Any:
        found = handler_call_details.method == TRACES
        return grpc.unary_unary_rpc_method_handler(_nothing) if found else None


async def _nothing(message: bytes, call: Any) -> bytes:
    return b""


async def _serve(port: int) -> None:
    server = grpc.aio.server(handlers=(Away(),), options=(("grpc.max_receive_message_length", 2**26),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
