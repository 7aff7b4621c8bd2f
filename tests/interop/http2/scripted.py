"""A server that misbehaves by plan: the seven cases of grpc's negative HTTP/2 interop tests, in frames.

It knows HTTP/2 from hyperframe and hpack alone. Each case answers every request, once it is complete, in the
case's way; all else is the bookkeeping of windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from wire import frames
from wire.frames import OK_TRAILERS, RESPONSE, Peer, Seen

ANSWER = random.Random(5).randbytes(314_159)
"""The large answer of the official cases."""


class Connection:
    """One client's connection."""

    def __init__(self, server: Scripted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.peer = Peer()
        self.settings: dict[int, int] = {}
        self.window = 65_535
        self.windows: dict[int, int] = {}
        self.opened = asyncio.Event()
        self.open: set[int] = set()
        self.most_open = 0
        self.calls: list[int] = []
        self.pings = 0
        self.pongs: list[bytes] = []
        self.reset: set[int] = set()

    def write(self, *octets: bytes) -> None:
        self.writer.write(b"".join(octets))

    def headers(self, stream_id: int, fields: frames.Fields = RESPONSE, *, end: bool = False) -> None:
        self.write(self.peer.headers(stream_id, fields, end=end))

    def ping(self) -> None:
        self.pings += 1
        self.write(frames.ping(b"%08d" % self.pings))

    async def data(
        self, stream_id: int, octets: bytes, *, piece: int = 16_384, padding: int | None = None
    ) -> None:
        """Send them as the windows allow; padding counts as well."""
        more = 0 if padding is None else padding + 1
        for at in range(0, len(octets), piece):
            part = octets[at : at + piece]
            size = len(part) + more
            while min(self.window, self._window(stream_id)) < size and stream_id not in self.reset:
                self.opened.clear()
                await self.opened.wait()
            if stream_id in self.reset:
                return
            self.window -= size
            self.windows[stream_id] = self._window(stream_id) - size
            self.write(frames.data(stream_id, part, padding=padding))
            await self.writer.drain()

    def _window(self, stream_id: int) -> int:
        return self.windows.setdefault(stream_id, self.settings.get(4, 65_535))

    async def answer(self, stream_id: int, *, padding: int | None = None, piece: int = 16_384) -> None:
        """The whole answer, as it should be."""
        self.headers(stream_id)
        await self.data(stream_id, frames.message(ANSWER), padding=padding, piece=piece)
        self.end(stream_id)

    def end(self, stream_id: int) -> None:
        self.headers(stream_id, OK_TRAILERS, end=True)
        self.open.discard(stream_id)

    def stop(self, stream_id: int) -> None:
        self.write(frames.reset(stream_id, frames.NO_ERROR))
        self.open.discard(stream_id)

    async def ponged(self, times: int) -> None:
        """Until so many pings have been answered."""
        while len(self.pongs) < times:
            self.opened.clear()
            await self.opened.wait()

    async def run(self) -> None:
        self.write(frames.settings(self.server.settings))
        async with asyncio.TaskGroup() as tasks:
            while octets := await self.reader.read(1 << 16):
                for seen in self.peer.read(octets):
                    self._seen(seen, tasks)

    def _seen(self, seen: Seen, tasks: asyncio.TaskGroup) -> None:
        stream_id = seen.stream_id
        if seen.kind == "settings" and not seen.ack:
            before = self.settings.get(4, 65_535)
            self.settings |= seen.values
            for each in self.windows:
                self.windows[each] += self.settings.get(4, 65_535) - before
            self.write(frames.settings(ack=True))
            self.opened.set()
        elif seen.kind == "window_update":
            if stream_id == 0:
                self.window += seen.number
            else:
                self.windows[stream_id] = self._window(stream_id) + seen.number
            self.opened.set()
        elif seen.kind == "ping":
            if seen.ack:
                self.pongs.append(seen.data)
                self.opened.set()
            else:
                self.write(frames.ping(seen.data, ack=True))
        elif seen.kind == "reset":
            self.reset.add(stream_id)
            self.open.discard(stream_id)
            self.opened.set()
        elif seen.kind == "headers":
            self.open.add(stream_id)
            self.most_open = max(self.most_open, len(self.open))
        elif seen.kind == "data" and seen.data:
            self.write(
                frames.window_update(0, len(seen.data)), frames.window_update(stream_id, len(seen.data))
            )
        if seen.end and seen.kind in ("headers", "data"):
            self.calls.append(stream_id)
            tasks.create_task(self.server.case(self, stream_id))


Case = Callable[[Connection, int], Coroutine[Any, Any, None]]


async def goaway(connection: Connection, stream_id: int) -> None:
    """Answer, and take no other call on this connection."""
    await connection.answer(stream_id)
    connection.write(frames.goaway(stream_id))


async def rst_after_header(connection: Connection, stream_id: int) -> None:
    connection.headers(stream_id)
    connection.stop(stream_id)


async def rst_during_data(connection: Connection, stream_id: int) -> None:
    connection.headers(stream_id)
    await connection.data(stream_id, frames.message(ANSWER)[:100_000])
    connection.stop(stream_id)


async def rst_after_data(connection: Connection, stream_id: int) -> None:
    connection.headers(stream_id)
    await connection.data(stream_id, frames.message(ANSWER))
    connection.stop(stream_id)


async def ping(connection: Connection, stream_id: int) -> None:
    """One before each part of the answer, and after it."""
    connection.ping()
    connection.headers(stream_id)
    connection.ping()
    await connection.data(stream_id, frames.message(ANSWER))
    connection.ping()
    connection.end(stream_id)
    connection.ping()


async def max_streams(connection: Connection, stream_id: int) -> None:
    await connection.answer(stream_id)


async def data_frame_padding(connection: Connection, stream_id: int) -> None:
    """Twenty bytes a frame, and up to 255 of padding: that only works if padding is given back too."""
    await connection.answer(stream_id, padding=5 if stream_id == 1 else 255, piece=20)


class Scripted:
    """The server: `case` answers each call."""

    def __init__(self, case: Case, settings: dict[int, int] | None = None) -> None:
        self.case = case
        self.settings = settings or {}
        self.connections: list[Connection] = []
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Scripted]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for connection in self.connections:
                connection.writer.transport.abort()
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        self.connections.append(connection)
        try:
            await connection.run()
        except* ConnectionError:
            pass  # the client has gone
        finally:
            writer.transport.abort()
