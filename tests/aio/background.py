"""Servers in a thread, for tests whose client is a channel for threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import grpc
from grpc import StatusCode

from aio.peer import Script, scripted
from tai_grpc import aio


class Background:
    """An event loop in a thread, with servers on it."""

    def __init__(self) -> None:
        self.hanging = 0
        """How many calls of Hang have come."""
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def scripted(self, *scripts: Script) -> str:
        return str(self.run(self._stack.enter_async_context(scripted(*scripts))).target)

    def serve(self, credentials: Any = None, address: str = "127.0.0.1:0") -> str:
        return str(self.run(self._serve(credentials, address)))

    async def _serve(self, credentials: Any, address: str) -> str:
        server = aio.server(options=(("grpc.so_reuseport", 0),))
        handlers = {**HANDLERS, "Hang": grpc.unary_unary_rpc_method_handler(self._hang)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        await server.start()
        self._stack.push_async_callback(server.stop, None)
        return address if address.startswith("unix:") else f"localhost:{port}"

    async def _hang(self, request: bytes, context: Any) -> bytes:
        self.hanging += 1
        await asyncio.Event().wait()
        return request

    def stop_servers(self) -> None:
        self.run(self._stack.aclose())

    def close(self) -> None:
        self.stop_servers()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def one(request: bytes, context: Any) -> bytes:
    await context.send_initial_metadata((("early", "yes"), ("early-bin", b"\0\xff")))
    context.set_trailing_metadata((("late", dict(context.invocation_metadata()).get("asked", "")),))
    return request


async def fail(request: bytes, context: Any) -> bytes:
    await context.abort(StatusCode.FAILED_PRECONDITION, "n\u00f6", (("late", "yes"),))
    return request


async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
    number, size = map(int, request.split())
    for _ in range(number):
        yield b"x" * size


async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"%d" % sum([len(request) async for request in requests])


async def upper(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request.upper()


HANDLERS: dict[str, Any] = {
    "One": grpc.unary_unary_rpc_method_handler(one),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Join": grpc.stream_unary_rpc_method_handler(join),
    "Upper": grpc.stream_stream_rpc_method_handler(upper),
}
