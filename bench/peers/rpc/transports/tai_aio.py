"""grpcio_aio with another import."""

from functools import partial

from bench.peers.rpc import asyncio_stub
from bench.peers.rpc.protocol import Asynchronous
from tai_grpc import aio

PEER = Asynchronous(
    ("tai-grpc", "protobuf"),
    partial(asyncio_stub.serve, aio, aio),
    partial(asyncio_stub.connect, aio, aio),
)
