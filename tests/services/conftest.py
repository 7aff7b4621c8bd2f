"""A real server on a free port, and the generated stubs on a plain grpcio channel to it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import grpc
import pytest

from tai_grpc.config import GrpcServerConfig
from tai_grpc.server import GrpcServer
from tai_grpc.stores.base import Store
from tai_grpc.tai.v1.coordinator_pb2_grpc import CoordinatorStub
from tai_grpc.tai.v1.governor_pb2_grpc import GovernorStub
from tai_grpc.tai.v1.scheduler_pb2_grpc import SchedulerStub
from transports import TRANSPORTS


class Peer(NamedTuple):
    """A running server and stubs that speak to it."""

    server: GrpcServer
    governor: Any
    coordinator: Any
    scheduler: Any


Serve = Callable[..., Awaitable[Peer]]


@pytest.fixture(params=TRANSPORTS)
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def start(store: Store | None = None, **settings: Any) -> Peer:
            settings = {"listen": "127.0.0.1:0", "grace": 1.0, "transport": request.param, **settings}
            server = GrpcServer(GrpcServerConfig(**settings), store)
            await stack.enter_async_context(server)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            return Peer(server, GovernorStub(channel), CoordinatorStub(channel), SchedulerStub(channel))

        yield start


@pytest.fixture
async def peer(serve: Serve) -> Peer:
    return await serve()
