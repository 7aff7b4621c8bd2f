"""Echo as its users would write it for generated code: with coroutines, and with threads."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from bench.peers.rpc.echo import TEXT, messages

Note, Count = messages().Note, messages().Count
NOTE = Note(text=TEXT)
"""Sent again and again: a stream measures the transport, not how a message is made."""


class AsyncEcho:
    """What grpc.aio and those that take its servicers call."""

    def __init__(self) -> None:
        self.handled = 0
        self.holding = 0
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()

    async def Unary(self, request: Any, context: object) -> Any:
        self.handled += 1
        return request

    async def Download(self, request: Any, context: object) -> AsyncIterator[Any]:
        self.handled += 1
        for _ in range(request.messages):
            yield NOTE

    async def Upload(self, requests: AsyncIterator[Any], context: object) -> Any:
        self.handled += 1
        came = 0
        async for _ in requests:
            came += 1
        return Count(messages=came)

    async def Chat(self, requests: AsyncIterator[Any], context: object) -> AsyncIterator[Any]:
        self.handled += 1
        async for request in requests:
            yield request

    async def Hold(self, request: Any, context: object) -> Any:
        self.handled += 1
        self.holding += 1
        await self._released.wait()
        self.holding -= 1
        return request


class ThreadedEcho:
    """What grpcio's own server and those that take its servicers call, from many threads."""

    def __init__(self) -> None:
        self.holding = 0
        self._lock = threading.Lock()
        self._handled = 0
        self._released = threading.Event()

    @property
    def handled(self) -> int:
        return self._handled

    def release(self) -> None:
        self._released.set()

    def _count(self, held: int = 0) -> None:
        with self._lock:
            self._handled += not held
            self.holding += held

    def Unary(self, request: Any, context: object) -> Any:
        self._count()
        return request

    def Download(self, request: Any, context: object) -> Iterator[Any]:
        self._count()
        for _ in range(request.messages):
            yield NOTE

    def Upload(self, requests: Iterator[Any], context: object) -> Any:
        self._count()
        return Count(messages=sum(1 for _ in requests))

    def Chat(self, requests: Iterator[Any], context: object) -> Iterator[Any]:
        self._count()
        yield from requests

    def Hold(self, request: Any, context: object) -> Any:
        self._count()
        self._count(1)
        self._released.wait()
        self._count(-1)
        return request
