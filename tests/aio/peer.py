"""A server that does what a test tells it, frame by frame: good ones do not break the protocol on demand."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, PADDED, ACK = 1, 4, 8, 1
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 7, 8, 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Fields = Sequence[tuple[str, str]]
INITIAL: Fields = ((":status", "200"), ("content-type", "application/grpc"))


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class Peer:
    """One connection, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def start(self, settings: Sequence[tuple[int, int]] = ()) -> None:
        """Take the client's preface, and send our settings."""
        assert await self._reader.readexactly(len(PREFACE)) == PREFACE
        self.send(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *setting) for setting in settings))

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        size = struct.pack(">I", len(payload))[1:]
        self._writer.write(size + struct.pack(">BBI", kind, flags, stream) + payload)

    async def frame(self) -> Frame:
        head = await self._reader.readexactly(9)
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        return Frame(kind, flags, stream, await self._reader.readexactly(int.from_bytes(head[:3])))

    async def wait(self, kind: int, stream: int | None = None) -> Frame:
        """Return the next frame of this kind (and stream); settings are acknowledged, the others dropped."""
        while True:
            frame = await self.frame()
            if frame.kind == SETTINGS and not frame.flags & ACK:
                self.send(SETTINGS, ACK, 0)
            if (
                frame.kind == kind
                and stream in (None, frame.stream)
                and not (kind == PING and frame.flags & ACK)
            ):
                return frame

    async def request(self) -> int:
        """Wait for a call; return its stream."""
        return (await self.wait(HEADERS)).stream

    async def whole_request(self) -> int:
        """Wait for a call and all its messages; return its stream."""
        stream = await self.request()
        while not (await self.wait(DATA, stream)).flags & END_STREAM:
            pass
        return stream

    def headers(self, stream: int, fields: Fields = INITIAL, *, end: bool = False) -> None:
        block = b"".join(
            b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
            for name, value in fields
        )
        self.send(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)

    def message(self, stream: int, data: bytes, *, compressed: bool = False) -> None:
        self.send(DATA, 0, stream, struct.pack(">BI", compressed, len(data)) + data)

    def status(self, stream: int, code: int = 0, message: str = "") -> None:
        self.headers(stream, (("grpc-status", str(code)), ("grpc-message", message)), end=True)

    def answer(self, stream: int, data: bytes = b"answer") -> None:
        self.headers(stream)
        self.message(stream, data)
        self.status(stream)

    def reset(self, stream: int, code: int) -> None:
        self.send(RST_STREAM, 0, stream, struct.pack(">I", code))

    def goaway(self, last: int, code: int = 0, debug: bytes = b"") -> None:
        self.send(GOAWAY, 0, 0, struct.pack(">II", last, code) + debug)

    def close(self) -> None:
        self._writer.close()

    async def closed(self) -> None:
        """Wait until the client has closed."""
        while await self._reader.read(65536):
            pass


Script = Callable[[Peer], Awaitable[None]]


class Scripts:
    """Serves the n-th connection by the n-th script; further ones by the last."""

    def __init__(self, scripts: Sequence[Script]) -> None:
        self._scripts = scripts
        self.connections = 0
        self.accepted = asyncio.Event()
        self.target = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        self.accepted.set()
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):  # the client closed
                await script(Peer(reader, writer))
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[Scripts]:
    """Listen on a loopback port. A script that fails fails the test; a client that closes ends it."""
    scene = Scripts(scripts)
    running: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(scene.serve(reader, writer))
        running.add(task)
        task.add_done_callback(forget)

    def forget(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            running.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    scene.target = f"{host}:{port}"
    try:
        yield scene
    finally:
        server.close()
        for task in running:
            task.cancel()
        results = await asyncio.gather(*running, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
