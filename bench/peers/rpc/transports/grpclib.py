import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Server

from bench.peers.rpc.echo import SERVICE, TEXT, messages
from bench.peers.rpc.protocol import Asynchronous, Client, Serving, Tls
from bench.peers.rpc.servicers import NOTE, AsyncEcho

Note, Count = messages().Note, messages().Count


class Echo(AsyncEcho):
    """What grpclib's own protoc plugin would generate, and the handlers in grpclib's terms."""

    def __mapping__(self) -> dict[str, Handler]:
        calls = {
            "Unary": (self._one("Unary"), Cardinality.UNARY_UNARY, Note, Note),
            "Download": (self._download, Cardinality.UNARY_STREAM, Count, Note),
            "Upload": (self._upload, Cardinality.STREAM_UNARY, Note, Count),
            "Chat": (self._chat, Cardinality.STREAM_STREAM, Note, Note),
            "Hold": (self._one("Hold"), Cardinality.UNARY_UNARY, Note, Note),
        }
        return {f"/{SERVICE}/{name}": Handler(*call) for name, call in calls.items()}

    def _one(self, name: str) -> Any:
        handler = getattr(self, name)

        async def one(stream: Any) -> None:
            await stream.send_message(await handler(await stream.recv_message(), stream))

        return one

    async def _download(self, stream: Any) -> None:
        async for note in self.Download(await stream.recv_message(), stream):
            await stream.send_message(note)

    async def _upload(self, stream: Any) -> None:
        await stream.send_message(await self.Upload(aiter(stream), stream))

    async def _chat(self, stream: Any) -> None:
        async for note in self.Chat(aiter(stream), stream):
            await stream.send_message(note)


class Stub:
    def __init__(self, channel: Channel) -> None:
        self.unary: Any = UnaryUnaryMethod(channel, f"/{SERVICE}/Unary", Note, Note)
        self.request = Note(text=TEXT)
        self._download = UnaryStreamMethod(channel, f"/{SERVICE}/Download", Count, Note)
        self._upload = StreamUnaryMethod(channel, f"/{SERVICE}/Upload", Note, Count)
        self._chat = StreamStreamMethod(channel, f"/{SERVICE}/Chat", Note, Note)

    async def download(self, messages: int) -> int:
        came = 0
        async with self._download.open() as stream:
            await stream.send_message(Count(messages=messages), end=True)
            async for _ in stream:
                came += 1
        return came

    async def upload(self, messages: int) -> int:
        async with self._upload.open() as stream:
            for _ in range(messages):
                await stream.send_message(NOTE)
            await stream.end()
            reply: Any = await stream.recv_message()
        return int(reply.messages)

    async def chat(self, messages: int) -> int:
        async with self._chat.open() as stream:
            for came in range(messages):
                await stream.send_message(NOTE)
                if await stream.recv_message() != NOTE:
                    return came
            await stream.end()
        return messages


@asynccontextmanager
async def serve(port: int, tls: Tls | None) -> AsyncIterator[Serving]:
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.chain, tls.key)
        context.set_alpn_protocols(["h2"])
    echo = Echo()
    server = Server([echo])
    listening = socket.create_server(("127.0.0.1", port))  # as grpclib does not tell its own
    await server.start(sock=listening, ssl=context)
    yield Serving(listening.getsockname()[1], echo)
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def connect(port: int, tls: Tls | None) -> AsyncIterator[Client]:
    context = None
    if tls is not None:
        context = ssl.create_default_context(cafile=str(tls.authority))
        context.set_alpn_protocols(["h2"])
    async with Channel("127.0.0.1", port, ssl=context) as channel:
        yield Stub(channel)


PEER = Asynchronous(("grpclib", "h2", "protobuf"), serve, connect)
