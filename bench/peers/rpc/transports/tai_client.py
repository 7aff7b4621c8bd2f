"""GrpcClient with all its layers as it comes, to the server of tai_grpc.aio."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from bench.peers.rpc import asyncio_stub
from bench.peers.rpc.echo import services
from bench.peers.rpc.protocol import Asynchronous, Client, NotBuiltError, Tls
from tai_grpc import GrpcClient, GrpcClientConfig, aio


@asynccontextmanager
async def connect(port: int, tls: Tls | None) -> AsyncIterator[Client]:
    if tls is not None:
        raise NotBuiltError("GrpcClient has no setting for TLS")
    async with GrpcClient(GrpcClientConfig(server_addresses=(f"127.0.0.1:{port}",))) as client:
        yield asyncio_stub.Stub(client.stub(services().EchoStub))


PEER = Asynchronous(("tai-grpc", "protobuf"), partial(asyncio_stub.serve, aio, aio), connect)
