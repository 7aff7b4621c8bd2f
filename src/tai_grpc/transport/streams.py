"""A stream's attempt on a channel with grpc.aio's interface: what both transports share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from grpc import aio

from tai_grpc.status import Metadata
from tai_grpc.transport.base import CallOptions, Reply

Call = aio.UnaryStreamCall[bytes, bytes] | aio.StreamStreamCall[bytes, bytes]


class ChannelStream:
    """A `StreamAttempt` but for `answered`. `reply` describes how a call has ended."""

    def __init__(
        self,
        channel: aio.Channel,
        method: str,
        request: bytes | None,
        options: CallOptions,
        reply: Callable[[Call], Awaitable[Reply]],
    ) -> None:
        self._call: Call
        if request is None:
            streaming: aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
            self._call = streaming(**options._asdict())
        else:
            serving: aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(method)
            self._call = serving(request, **options._asdict())
        self._reply = reply

    async def connected(self) -> bool:
        try:
            await self._call.wait_for_connection()
        except aio.AioRpcError:
            return False
        return True

    async def initial_metadata(self) -> Metadata:
        return tuple(await self._call.initial_metadata())

    async def read(self) -> bytes | None:
        try:
            message = await self._call.read()
        except aio.AioRpcError:
            return None
        except asyncio.CancelledError:
            # grpc.aio raises this in whoever reads when the call itself was cancelled.
            if self._call.cancelled() and not _is_being_cancelled():
                return None
            raise
        return None if message is aio.EOF else cast(bytes, message)

    async def write(self, message: bytes) -> bool:
        try:
            await self._writing().write(message)
        except (aio.AioRpcError, asyncio.InvalidStateError):
            return False
        except asyncio.CancelledError:
            if self._call.cancelled() and not _is_being_cancelled():
                return False
            raise
        return True

    async def done_writing(self) -> None:
        await self._writing().done_writing()

    def _writing(self) -> aio.StreamStreamCall[bytes, bytes]:
        return cast("aio.StreamStreamCall[bytes, bytes]", self._call)

    async def status(self) -> Reply:
        return await self._reply(self._call)

    def cancel(self) -> None:
        self._call.cancel()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
