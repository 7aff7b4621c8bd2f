"""A relay that counts the bytes that pass: how a test sees that a message was compressed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Relay:
    """Forwards connections to a loopback port while the block lasts; `heard` is given what clients say."""

    def __init__(self, port: int, heard: Callable[[bytes], object] = len) -> None:
        self.up = self.down = 0
        """Bytes from the client, bytes to it."""
        self.connections = 0
        self._heard = heard
        self.port = 0
        self._target = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent = False

    def silence(self) -> None:
        """From now on swallow what comes, and keep the connections open."""
        self._silent = True

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, to_writer, up=True))
                group.create_task(self._pump(to_reader, writer, up=False))
        except asyncio.CancelledError:
            pass  # the block is left: asyncio's streams would report the cancelled task as a failure
        finally:
            writer.transport.abort()
            to_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        try:
            while data := await reader.read(65536):
                if up:
                    self.up += len(data)
                    self._heard(data)
                else:
                    self.down += len(data)
                if self._silent:
                    continue
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # one side has gone, which the other one is told by the end
        if not writer.is_closing():
            writer.write_eof() if writer.can_write_eof() else writer.close()
