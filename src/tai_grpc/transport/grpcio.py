"""The client's transport on grpcio's asyncio channel."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import grpc
from grpc import StatusCode, aio

from tai_grpc.config import GrpcClientConfig
from tai_grpc.transport.base import CallOptions, Reply
from tai_grpc.transport.streams import ChannelStream

_CONNECT_TIMEOUT: Final = 1.0
"""Seconds that reaching an address may take at least, however short the backoff."""

_SETTLE: Final = 0.05
"""Seconds within which the status follows the headers of a Trailers-Only response. See `_Stream.answered`."""

_FOREVER: Final = 7 * 86_400.0

_UNREACHABLE: Final = ("failed to connect to all addresses", "errors resolving")
"""How grpcio's details begin when a call failed because there was no connection to send it on."""


class GrpcioTransport:
    """One channel to one address. grpcio keeps it and reconnects it, at most `connect_backoff_max` apart.

    A server that stopped answering is noticed while calls are in flight: it is pinged every `keepalive`
    seconds and has as long to answer, 10 s at most.
    """

    def __init__(self, address: str, config: GrpcClientConfig) -> None:
        self._address = address
        backoff_max = round(config.connect_backoff_max * 1000)
        keepalive = round(config.keepalive * 1000)
        self._options = (
            ("grpc.initial_reconnect_backoff_ms", 100),
            # grpcio's name for the time that one attempt to connect may take.
            ("grpc.min_reconnect_backoff_ms", max(backoff_max, round(_CONNECT_TIMEOUT * 1000))),
            ("grpc.max_reconnect_backoff_ms", backoff_max),
            ("grpc.keepalive_time_ms", keepalive),
            ("grpc.keepalive_timeout_ms", min(keepalive, 10_000)),
            ("grpc.http2.ping_timeout_ms", min(keepalive, 10_000)),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_send_message_length", -1),  # the receiver's limit counts
            # Retries and balancing are this package's, and each channel has its own backoff.
            ("grpc.enable_retries", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.use_local_subchannel_pool", 1),
        )
        self._channel = self._connect()
        self._closing: set[asyncio.Task[None]] = set()

    def _connect(self) -> aio.Channel:
        return aio.insecure_channel(self._address, self._options)

    async def unary(self, method: str, request: bytes, options: CallOptions) -> Reply:
        channel = self._channel
        multi: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        call = multi(request, **options._asdict())
        try:
            message = await call
        except aio.AioRpcError:
            return await _reply(channel, call)
        return await _reply(channel, call, message)

    def stream(self, method: str, request: bytes | None, options: CallOptions) -> _Stream:
        return _Stream(self._channel, method, request, options)

    def reconnect(self) -> None:
        # grpcio offers no way to cut its backoff short; a new channel has none yet.
        if self._channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            # Attempts that wait until the address can be reached keep the old one until they end.
            task = asyncio.create_task(self._channel.close(grace=_FOREVER))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._channel = self._connect()

    async def close(self) -> None:
        await self._channel.close()
        await asyncio.gather(*self._closing)


class _Stream(ChannelStream):
    """A `StreamAttempt` on a grpcio call."""

    def __init__(
        self, channel: aio.Channel, method: str, request: bytes | None, options: CallOptions
    ) -> None:
        super().__init__(channel, method, request, options, partial(_reply, channel))
        self._ahead: asyncio.Task[bytes | None] | None = None

    async def answered(self) -> bool:
        if await self._call.initial_metadata():
            return True
        # grpcio shows a Trailers-Only response, and a lost connection, as headers without an entry, and the
        # status at the same time. So headers without an entry count when something else follows, or nothing.
        self._ahead = asyncio.create_task(super().read())
        await asyncio.wait((self._ahead,), timeout=_SETTLE)
        if not self._ahead.done() or self._ahead.result() is not None:
            return True
        return await self._call.code() is StatusCode.OK

    async def read(self) -> bytes | None:
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return await ahead
        return await super().read()


async def _reply(channel: aio.Channel, call: aio.Call, message: bytes | None = None) -> Reply:
    """Wait for the call's end and describe it."""
    code = await call.code()
    details = await call.details() or ""
    unreachable = (
        code is StatusCode.UNAVAILABLE
        and details.startswith(_UNREACHABLE)
        and channel.get_state() is not grpc.ChannelConnectivity.READY
    )
    return Reply(
        code,
        details,
        tuple(await call.initial_metadata()),
        tuple(await call.trailing_metadata()),
        message,
        sent=not unreachable,
    )
