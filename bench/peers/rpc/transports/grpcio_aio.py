from functools import partial

import grpc
import grpc.aio

from bench.peers.rpc import asyncio_stub
from bench.peers.rpc.protocol import Asynchronous

PEER = Asynchronous(
    ("grpcio", "protobuf"),
    partial(asyncio_stub.serve, grpc.aio, grpc),
    partial(asyncio_stub.connect, grpc.aio, grpc),
)
