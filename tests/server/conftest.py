"""A service of every kind of call, written by hand on generic handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from tai_grpc.config import GrpcServerConfig
from tai_grpc.server import GrpcServer
from transports import transport

__all__ = ["transport"]

Serve = Callable[..., Awaitable[tuple[GrpcServer, Any]]]


class GenericServicer:
    """Looks as if protoc had generated it: `add_GenericServicer_to_server` registers its `handlers`."""

    def __init__(self, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self.handlers = handlers


def add_GenericServicer_to_server(servicer: GenericServicer, server: Any) -> None:
    handler = grpc.method_handlers_generic_handler("test.Generic", servicer.handlers)
    server.add_generic_rpc_handlers((handler,))
    server.add_registered_method_handlers("test.Generic", servicer.handlers)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def start(
            handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] | None = None, **settings: Any
        ) -> tuple[GrpcServer, Any]:
            settings = {"listen": "127.0.0.1:0", "grace": 5.0, **settings}
            server = GrpcServer(GrpcServerConfig(**settings))
            server.add(GenericServicer(handlers or {}))
            await stack.enter_async_context(server)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            return server, channel

        yield start
