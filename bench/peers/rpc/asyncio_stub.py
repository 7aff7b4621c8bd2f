"""A server and a client written for grpc.aio, of whatever has its names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.peers.rpc.echo import TEXT, messages, services
from bench.peers.rpc.protocol import OWN_CONNECTION, Client, Serving, Tls
from bench.peers.rpc.servicers import NOTE, AsyncEcho, Count


class Stub:
    """A `Client` on a stub that protoc generated."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.unary = stub.Unary
        self.request = messages().Note(text=TEXT)

    async def download(self, messages: int) -> int:
        came = 0
        async for _ in self._stub.Download(Count(messages=messages)):
            came += 1
        return came

    async def upload(self, messages: int) -> int:
        async def notes() -> AsyncIterator[Any]:
            for _ in range(messages):
                yield NOTE

        return int((await self._stub.Upload(notes())).messages)

    async def chat(self, messages: int) -> int:
        call = self._stub.Chat()
        for came in range(messages):
            await call.write(NOTE)
            if await call.read() != NOTE:
                return came
        await call.done_writing()
        return messages


@asynccontextmanager
async def serve(aio: Any, credentials: Any, port: int, tls: Tls | None) -> AsyncIterator[Serving]:
    """Serve with `aio.server`; `credentials` has grpc's names for those of TLS."""
    server = aio.server()
    echo = AsyncEcho()
    services().add_EchoServicer_to_server(echo, server)
    address = f"127.0.0.1:{port}"
    if tls is None:
        bound = server.add_insecure_port(address)
    else:
        pair = (tls.key.read_bytes(), tls.chain.read_bytes())
        bound = server.add_secure_port(address, credentials.ssl_server_credentials([pair]))
    await server.start()
    yield Serving(bound, echo)
    await server.stop(None)


@asynccontextmanager
async def connect(aio: Any, credentials: Any, port: int, tls: Tls | None) -> AsyncIterator[Client]:
    """Connect with a channel of `aio`."""
    address = f"127.0.0.1:{port}"
    if tls is None:
        channel = aio.insecure_channel(address, OWN_CONNECTION)
    else:
        trusted = credentials.ssl_channel_credentials(tls.authority.read_bytes())
        channel = aio.secure_channel(address, trusted, OWN_CONNECTION)
    async with channel:
        yield Stub(services().EchoStub(channel))
