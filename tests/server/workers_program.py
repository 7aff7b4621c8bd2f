"""A server of workers, as users write one: `python workers_program.py TRANSPORT WORKERS ADDRESS START`.

It says on stdout where it serves. What the workers share is asked of them by calls. The worker that is the
START-th to be started fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc

import tai_grpc as tg
from tai_grpc.config import Transport
from tai_grpc.observability.logging import configure_logging

TOKENS = 100


class SharedServicer:
    """Looks as if protoc had generated it."""

    def __init__(self, arena: tg.Arena, server: tg.GrpcServer) -> None:
        # A token comes back in a day.
        self.bucket = arena.token_bucket("all", 1 / 86_400, TOKENS)
        self.counter = arena.counter("calls")
        self.server = server

    async def pid(self, request: bytes, context: Any) -> bytes:
        self.counter.add()
        return str(os.getpid()).encode()

    async def take(self, request: bytes, context: Any) -> bytes:
        if not self.bucket.try_acquire():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "all is taken")
        return b""

    async def count(self, request: bytes, context: Any) -> bytes:
        stats = self.server.stats()
        counts = (self.counter.value, stats.started, stats.failed, stats.in_flight, stats.latency.count)
        return json.dumps(counts).encode()

    async def wait(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Take as many seconds as the request says."""
        yield b"begun"
        await asyncio.sleep(float(request))
        yield b"waited"


def add_SharedServicer_to_server(servicer: SharedServicer, server: Any) -> None:
    handlers: dict[str, Any] = {
        "Pid": grpc.unary_unary_rpc_method_handler(servicer.pid),
        "Take": grpc.unary_unary_rpc_method_handler(servicer.take),
        "Count": grpc.unary_unary_rpc_method_handler(servicer.count),
        "Wait": grpc.unary_stream_rpc_method_handler(servicer.wait),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Shared", handlers),))
    server.add_registered_method_handlers("test.Shared", handlers)


def main(transport: str, workers: int, listen: str, fails: int) -> None:
    configure_logging()
    arena = tg.Arena(None, 1 << 20)
    starts = arena.counter("starts")

    def make_server(arena: tg.Arena) -> tg.GrpcServer:
        starts.add()
        if starts.value == fails:
            raise ValueError("this one fails")
        config = tg.GrpcServerConfig(
            listen=listen, control_plane=False, transport=cast("Transport", transport), grace=5.0
        )
        server = tg.GrpcServer(config, arena=arena)
        server.add(SharedServicer(arena, server))
        return server

    tg.run_workers(
        make_server, workers, arena=arena, ready=lambda address, names: print(address, *names, flush=True)
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
