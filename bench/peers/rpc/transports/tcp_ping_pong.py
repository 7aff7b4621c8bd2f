"""What the machine gives: as many bytes as a small call has, back and forth over TCP, and nothing else.

The server answers where uvloop hands it the bytes; the client has a future a round trip, which is the least
that a coroutine can wait for.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from bench.peers.rpc.protocol import Asynchronous, Client, NotBuiltError, Serving, Tls

BYTES = 64


class Server(asyncio.Protocol):
    handled = holding = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def release(self) -> None:
        """Nothing is held."""


class RoundTrips(asyncio.Protocol):
    request: Any = bytes(BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def unary(self, request: Any) -> asyncio.Future[bytes]:
        self._reply = self._loop.create_future()
        self._transport.write(request)
        return self._reply

    def data_received(self, data: bytes) -> None:
        self._reply.set_result(data)

    async def download(self, messages: int) -> int:
        raise NotBuiltError("TCP has no messages")

    upload = chat = download


@asynccontextmanager
async def serve(port: int, tls: Tls | None) -> AsyncIterator[Serving]:
    if tls is not None:
        raise NotBuiltError("the limit is without TLS")
    async with await asyncio.get_running_loop().create_server(Server, "127.0.0.1", port) as server:
        yield Serving(server.sockets[0].getsockname()[1], Server())


@asynccontextmanager
async def connect(port: int, tls: Tls | None) -> AsyncIterator[Client]:
    transport, trips = await asyncio.get_running_loop().create_connection(RoundTrips, "127.0.0.1", port)
    yield trips
    transport.close()


PEER = Asynchronous(("uvloop",), serve, connect)
