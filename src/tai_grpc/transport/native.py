"""The client's transport on nghttp2: a channel of `tai_grpc.aio` to one address."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from grpc import aio

from tai_grpc._ext.aio.dispatcher import Dispatcher
from tai_grpc.aio import insecure_channel
from tai_grpc.config import GrpcClientConfig
from tai_grpc.transport.base import CallOptions, Reply
from tai_grpc.transport.streams import ChannelStream

_CONNECT_TIMEOUT: Final = 1.0
"""Seconds that reaching an address may take at least, however short the backoff."""


class NativeTransport:
    """One channel to one address, which reconnects by itself, at most `connect_backoff_max` apart.

    A server that stopped answering is noticed while calls are in flight: it is pinged every `keepalive`
    seconds and has as long to answer, 10 s at most.
    """

    def __init__(self, address: str, config: GrpcClientConfig) -> None:
        self._channel = insecure_channel(address, native_options(config))

    @property
    def dispatcher(self) -> Dispatcher:
        """What gives compiled calls a connection to the address."""
        return self._channel.dispatcher

    async def unary(self, method: str, request: bytes, options: CallOptions) -> Reply:
        call = self._channel.unary_unary(method)(request, **options._asdict())
        try:
            message = await call
        except aio.AioRpcError:
            return await _reply(call)
        return (await _reply(call))._replace(message=message)

    def stream(self, method: str, request: bytes | None, options: CallOptions) -> _Stream:
        return _Stream(self._channel, method, request, options, _reply)

    def reconnect(self) -> None:
        self._channel.reset_connect_backoff()

    async def close(self) -> None:
        await self._channel.close()


def native_options(config: GrpcClientConfig) -> tuple[tuple[str, int], ...]:
    """Return the options of a channel to one of a client's addresses."""
    backoff_max = round(config.connect_backoff_max * 1000)
    keepalive = round(config.keepalive * 1000)
    return (
        ("grpc.initial_reconnect_backoff_ms", min(100, backoff_max)),
        ("grpc.max_reconnect_backoff_ms", backoff_max),
        ("grpc.min_reconnect_backoff_ms", max(backoff_max, round(_CONNECT_TIMEOUT * 1000))),
        ("grpc.keepalive_time_ms", keepalive),
        ("grpc.keepalive_timeout_ms", min(keepalive, 10_000)),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),  # the receiver's limit counts
    )


class _Stream(ChannelStream):
    """A `StreamAttempt` on a native call."""

    async def answered(self) -> bool:
        await self._call.initial_metadata()
        call: Any = self._call
        return bool(call.was_answered())

    async def status(self) -> Reply:
        # The call knows its status when that is here; it is done when the messages before it were read.
        if not self._call.done():
            done = asyncio.Event()
            self._call.add_done_callback(lambda _: done.set())
            await done.wait()
        return await super().status()


async def _reply(call: Any) -> Reply:
    """Wait for the call's end and describe it."""
    return Reply(
        await call.code(),
        await call.details() or "",
        tuple(await call.initial_metadata()),
        tuple(await call.trailing_metadata()),
        sent=call.was_sent(),
    )
