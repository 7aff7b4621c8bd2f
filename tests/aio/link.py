"""A server and a channel of the implementation under test, and the few words the tests are written in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import grpc

SERVICE = "test.Conformity"

# Handlers of the four kinds, named by what they do with their messages.
unary = grpc.unary_unary_rpc_method_handler
split = grpc.unary_stream_rpc_method_handler
collect = grpc.stream_unary_rpc_method_handler
chat = grpc.stream_stream_rpc_method_handler

Handlers = Mapping[str, Any]
Options = Sequence[tuple[str, Any]]


def path(name: str) -> str:
    return f"/{SERVICE}/{name}"


class Link:
    """Starts servers and opens channels; leaving the block closes all of them, channels first."""

    def __init__(self, rpc: Any) -> None:
        self.rpc = rpc
        self.is_grpcio = rpc.__name__ == "grpc.aio"
        """Whether this is grpc.aio itself, whose known defects are forgiven where a test names them."""
        self._servers = AsyncExitStack()
        self._channels = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all that is open now, for tests that own something the servers use."""
        await self._channels.aclose()
        await self._servers.aclose()

    def make_server(self, handlers: Handlers | None = None, *, options: Options = (), **settings: Any) -> Any:
        """Return a server that is not started, with these handlers of the test's service."""
        if not any(name == "grpc.so_reuseport" for name, *_ in options):
            options = (("grpc.so_reuseport", 0), *options)
        server = self.rpc.server(options=options, **settings)
        if handlers is not None:
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, dict(handlers)),))
        self._servers.push_async_callback(server.stop, None)
        return server

    async def serve(
        self, handlers: Handlers | None = None, *, credentials: Any = None, **settings: Any
    ) -> tuple[Any, str]:
        """Start a server on a free loopback port; return it and its address."""
        server = self.make_server(handlers, **settings)
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        return server, f"127.0.0.1:{port}"

    def channel(self, target: str, *, credentials: Any = None, **settings: Any) -> Any:
        if credentials is None:
            channel = self.rpc.insecure_channel(target, **settings)
        else:
            channel = self.rpc.secure_channel(target, credentials, **settings)
        self._channels.push_async_callback(channel.close)
        return channel

    async def open(self, handlers: Handlers | None = None, **settings: Any) -> Any:
        """Return a channel, without options, to a server of these handlers and settings."""
        _, target = await self.serve(handlers, **settings)
        return self.channel(target)


async def failure(call: Awaitable[Any]) -> Any:
    """Await a call that must fail; return its AioRpcError, of whichever implementation."""
    try:
        response = await call
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"the call was answered with {response!r}")


async def read_all(call: Any) -> list[Any]:
    return [message async for message in call]


async def broken(call: Any) -> tuple[list[Any], Any]:
    """Iterate a call that must fail; return what came before and the error."""
    messages: list[Any] = []
    try:
        async for message in call:
            messages.append(message)  # noqa: PERF401 - what came before the error counts
    except grpc.RpcError as error:
        return messages, error
    raise AssertionError(f"the call ended well after {messages!r}")


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` holds; the test's limit ends a wait in vain."""
    while not condition():  # noqa: ASYNC110 - the condition is the library's
        await asyncio.sleep(0.002)


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def repeat(request: bytes, context: Any) -> AsyncIterator[bytes]:
    """Split the request into its bytes."""
    for byte in request:
        yield bytes((byte,))


async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"".join([request async for request in requests])


async def mirror(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


BASIC: Handlers = {"Echo": unary(echo), "Split": split(repeat), "Join": collect(join), "Chat": chat(mirror)}


class Stuck:
    """A handler that waits until it is cancelled or let go, and tells what happened to it."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.ended = asyncio.Event()
        self.cancelled = False
        self.context: Any = None

    async def _wait(self, context: Any) -> None:
        self.context = context
        self.begun.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.ended.set()

    async def unary(self, request: bytes, context: Any) -> bytes:
        await self._wait(context)
        return request

    async def split(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await self._wait(context)
        yield b"last"

    async def collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        await self._wait(context)
        return await join(requests, context)

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await self._wait(context)
        async for request in requests:
            yield request

    def handlers(self) -> Handlers:
        return {
            "Unary": unary(self.unary),
            "Split": split(self.split),
            "Collect": collect(self.collect),
            "Chat": chat(self.chat),
        }
