"""A server only: its own README says that one changes nothing for clients, so grpc.aio's is the client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import grpc
import grpc.aio
import pygrpc_native.aio

from bench.peers.rpc import asyncio_stub
from bench.peers.rpc.protocol import Asynchronous, NotBuiltError, Serving, Tls


@asynccontextmanager
async def serve(port: int, tls: Tls | None) -> AsyncIterator[Serving]:
    if tls is not None:
        raise NotBuiltError("pygrpc-native has no TLS")
    async with asyncio_stub.serve(pygrpc_native.aio, grpc, port, None) as serving:
        yield serving


PEER = Asynchronous(
    ("pygrpc-native", "grpcio", "protobuf"), serve, partial(asyncio_stub.connect, grpc.aio, grpc)
)
