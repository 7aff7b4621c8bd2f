"""The call objects: grpc.aio's surface over a task that runs the call through the layers.

As in grpc.aio: a call starts when it is made, cancelling whoever awaits or reads it cancels the call, and
`code()`, `details()` and the metadata may be awaited at any time. Different from it: a failed call raises
`CallError`, which names the endpoint and the number of attempts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Generic, TypeVar

from grpc import StatusCode, aio

from tai_grpc.client.invocation import Invocation, StreamInvocation, call_error
from tai_grpc.transport.base import Reply, StreamAttempt

Req = TypeVar("Req")
Res = TypeVar("Res")

_CANCELLED = Reply(StatusCode.CANCELLED, "cancelled by the caller")


class _Call(Generic[Res]):
    """What all four kinds have."""

    def __init__(
        self, invocation: Invocation, task: asyncio.Task[Reply], deserialize: Callable[[bytes], Res]
    ) -> None:
        self._invocation = invocation
        self._task = task
        self._deserialize = deserialize

    def cancel(self) -> bool:
        """Give the call up; False when it has ended already."""
        return self._task.cancel()

    def cancelled(self) -> bool:
        return self._task.cancelled()

    def done(self) -> bool:
        return self._task.done()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._task.add_done_callback(lambda _: callback(self))

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None when there is none, or the call has not started yet."""
        deadline = self._invocation.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    async def code(self) -> StatusCode:
        return (await self._reply()).code

    async def details(self) -> str:
        return (await self._reply()).details

    async def trailing_metadata(self) -> aio.Metadata:
        return aio.Metadata(*(await self._reply()).trailing_metadata)

    async def initial_metadata(self) -> aio.Metadata:
        return aio.Metadata(*(await self._reply()).initial_metadata)

    async def wait_for_connection(self) -> None:
        """Wait until an endpoint has taken the call.

        Raises:
            CallError: the call failed before.
        """
        self._check(await self._reply())

    async def _reply(self) -> Reply:
        """Wait for the end without binding the call to the one who waits."""
        if not self._task.done():
            await asyncio.wait((self._task,))
        return _CANCELLED if self._task.cancelled() else self._task.result()

    def _check(self, reply: Reply) -> None:
        if self._task.cancelled():
            raise asyncio.CancelledError
        if reply.code is not StatusCode.OK:
            raise call_error(self._invocation, reply)

    def _message(self, data: bytes) -> Res:
        try:
            return self._deserialize(data)
        except Exception as error:
            raise call_error(
                self._invocation, Reply(StatusCode.INTERNAL, f"the response cannot be read: {error!r}")
            ) from error


class _UnaryResponse(_Call[Res]):
    """Awaited for its one response."""

    def __await__(self) -> Generator[Any, None, Res]:
        return self._response().__await__()

    async def _response(self) -> Res:
        reply = await self._task
        self._check(reply)
        return self._message(reply.message or b"")


class _Opened(_Call[Res]):
    """With a stream on either side: there is an attempt to read from or write to before the call's end."""

    _invocation: StreamInvocation

    async def initial_metadata(self) -> aio.Metadata:
        attempt = await self._attempt()
        if attempt is None:
            return await super().initial_metadata()
        return aio.Metadata(*await attempt.initial_metadata())

    async def wait_for_connection(self) -> None:
        if await self._attempt() is None:
            await super().wait_for_connection()

    async def _attempt(self) -> StreamAttempt | None:
        """Wait for the attempt that the call is committed to; None when it ended without one."""
        opened = self._invocation.opened
        if not opened.done() and not self._task.done():
            await asyncio.wait((opened, self._task), return_when=asyncio.FIRST_COMPLETED)
        return opened.result() if opened.done() else None

    def __del__(self) -> None:
        # Whoever leaves an `async for` early lets go of the call: it must not go on unread.
        loop = self._task.get_loop()
        if not self._task.done() and not loop.is_closed():
            loop.call_soon_threadsafe(self._task.cancel)


class _StreamResponse(_Opened[Res]):
    """Read with `async for`, or with `read()` until it returns `grpc.aio.EOF`."""

    _heard = False

    def __aiter__(self) -> AsyncIterator[Res]:
        return self

    async def __anext__(self) -> Res:
        data = await self._read()
        if data is None:
            raise StopAsyncIteration
        return self._message(data)

    async def read(self) -> Any:
        data = await self._read()
        return aio.EOF if data is None else self._message(data)

    async def _read(self) -> bytes | None:
        """Wait for the next message; None after the last one of a call that ended with OK."""
        try:
            attempt = await self._attempt()
            data = None if attempt is None else await attempt.read()
            if data is None:
                self._check(await self._reply())
            elif not self._heard:
                self._heard = True
                self._invocation.proven()
        except asyncio.CancelledError:
            self.cancel()
            raise
        return data


class _StreamRequest(_Opened[Res], Generic[Req, Res]):
    """Fed by the iterator that the call was made with, or by `write()` and `done_writing()` without one."""

    def __init__(
        self,
        invocation: StreamInvocation,
        task: asyncio.Task[Reply],
        deserialize: Callable[[bytes], Res],
        serialize: Callable[[Req], bytes],
    ) -> None:
        super().__init__(invocation, task, deserialize)
        self._serialize = serialize
        self._half_closed = False

    async def write(self, request: Req) -> None:
        """Send a request, waiting while the server is slow to take it.

        Raises:
            CallError: the call has failed.
            asyncio.InvalidStateError: the call has ended with OK, or `done_writing` was called.
            grpc.aio.UsageError: the call was made with an iterator of requests.
        """
        if self._half_closed:
            raise asyncio.InvalidStateError("done_writing was called: no request may follow")
        data = self._serialize(request)
        attempt = await self._writable()
        try:
            written = attempt is not None and await attempt.write(data)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if not written:
            self._check(await self._reply())
            raise asyncio.InvalidStateError("the call has ended with OK: it takes no more requests")

    async def done_writing(self) -> None:
        """Tell the server that no request follows."""
        attempt = await self._writable()
        self._half_closed = True
        if attempt is not None:
            await attempt.done_writing()

    async def _writable(self) -> StreamAttempt | None:
        if self._invocation.requests is not None:
            raise aio.UsageError(
                "the call was made with an iterator of requests: it cannot be written to as well"
            )
        try:
            return await self._attempt()
        except asyncio.CancelledError:
            self.cancel()
            raise


class UnaryUnaryCall(_UnaryResponse[Res], aio.UnaryUnaryCall[Req, Res], Generic[Req, Res]):
    """One request, one response."""


class UnaryStreamCall(_StreamResponse[Res], aio.UnaryStreamCall[Req, Res], Generic[Req, Res]):
    """One request, a stream of responses."""


class StreamUnaryCall(_StreamRequest[Req, Res], _UnaryResponse[Res], aio.StreamUnaryCall[Req, Res]):
    """A stream of requests, one response."""


class StreamStreamCall(_StreamRequest[Req, Res], _StreamResponse[Res], aio.StreamStreamCall[Req, Res]):
    """A stream of requests, a stream of responses."""
