"""Channels with grpc.aio's interface on the native transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc
from grpc import ChannelConnectivity, aio

from tai_grpc._ext.aio import calls, multicallable
from tai_grpc._ext.aio.dispatcher import Dispatcher
from tai_grpc.aio._channel_options import channel_options
from tai_grpc.aio._connection import settings_of
from tai_grpc.aio._credentials import Authorizer, ChannelSecurity, channel_security
from tai_grpc.aio._interceptors import INTERCEPTED, sorted_by_kind
from tai_grpc.aio._policy import PickFirst, Policy, RoundRobin
from tai_grpc.aio._target import parse

_CLOSED: Final = "Channel is closed."

_KINDS: Final[dict[str, Any]] = {
    "unary_unary": multicallable.UnaryUnaryMultiCallable,
    "unary_stream": multicallable.UnaryStreamMultiCallable,
    "stream_unary": multicallable.StreamUnaryMultiCallable,
    "stream_stream": multicallable.StreamStreamMultiCallable,
}

# `isinstance` sees grpc.aio's own classes in ours.
aio.UnaryUnaryMultiCallable.register(multicallable.UnaryUnaryMultiCallable)
aio.UnaryStreamMultiCallable.register(multicallable.UnaryStreamMultiCallable)
aio.StreamUnaryMultiCallable.register(multicallable.StreamUnaryMultiCallable)
aio.StreamStreamMultiCallable.register(multicallable.StreamStreamMultiCallable)
aio.UnaryUnaryCall.register(calls.UnaryUnaryCall)
aio.UnaryStreamCall.register(calls.UnaryStreamCall)
aio.StreamUnaryCall.register(calls.StreamUnaryCall)
aio.StreamStreamCall.register(calls.StreamStreamCall)


class _States:
    """A channel's state and who waits for another; apart from it, as connections must not keep channels."""

    def __init__(self) -> None:
        self.now = ChannelConnectivity.IDLE
        self._waiters: list[asyncio.Future[None]] = []

    def move(self, state: ChannelConnectivity) -> None:
        if self.now is ChannelConnectivity.SHUTDOWN or state is self.now:
            return
        self.now = state
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def leave(self, state: ChannelConnectivity) -> None:
        """Wait until the state is another."""
        while self.now is state:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)


class Channel(aio.Channel):
    """Made by `insecure_channel` and `secure_channel`. It belongs to the event loop that it was made in."""

    def __init__(
        self,
        target: str,
        options: Sequence[tuple[str, Any]] | None,
        security: ChannelSecurity | None,
        compression: grpc.Compression | None,
        interceptors: Sequence[aio.ClientInterceptor] | None,
    ) -> None:
        self._closed = True  # for __del__, until all is there
        self._interceptors = sorted_by_kind(interceptors)
        parsed = parse(target)
        chosen = channel_options(options, compression)
        self._loop = _working_loop()
        self._compression = int(chosen.compression)
        settings = settings_of(parsed, chosen, None if security is None else security.ssl_context)
        self._authorize: Authorizer | None = None
        self._always_authorize = False
        if security is not None and security.ssl_context is not None:
            self._authorize = Authorizer(settings.authority, security.call_credentials)
            self._always_authorize = bool(security.call_credentials)
        self._states = _States()
        make = RoundRobin if chosen.policy == "round_robin" else PickFirst
        self._policy: Policy = make(self._loop, parsed, settings, self._states.move)
        self._dispatcher = Dispatcher(self._loop, self._policy, chosen.max_send_message_bytes)
        self._policy.dispatcher = self._dispatcher
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Take no more calls, give those under way `grace` seconds to end (None: none), cancel the others,
        and disconnect. Closing twice is fine.

        Raises:
            ValueError: `grace` is negative.
        """
        if self._closed:
            return
        if grace is not None and grace < 0:
            raise ValueError(f"grace must be non-negative, got {grace}.")
        self._closed = True
        self._dispatcher.stop()
        try:
            if grace and self._dispatcher.busy:
                idle = asyncio.ensure_future(self._dispatcher.wait_idle())
                try:
                    await asyncio.wait((idle,), timeout=grace)
                finally:
                    idle.cancel()
        finally:
            # Also when whoever closes is cancelled: nobody could close it afterwards.
            self._dispatcher.cancel_calls()
            self._states.move(ChannelConnectivity.SHUTDOWN)
            self._policy.let_go()
        await self._policy.close()
        self._dispatcher.use(())  # those that are closed need not wait for the garbage collector

    def __del__(self) -> None:
        if not self._closed and not self._loop.is_closed():
            self._closed = True
            self._loop.call_soon_threadsafe(_let_go, self._dispatcher, self._policy)

    @property
    def dispatcher(self) -> Dispatcher:
        """What gives compiled calls a connection. Not of grpc.aio: for our own client."""
        return self._dispatcher

    def reset_connect_backoff(self) -> None:
        """If the target could not be reached: try again now. Not of grpc.aio's Python API."""
        self._policy.reset_backoff()

    def get_state(self, try_to_connect: bool = False) -> ChannelConnectivity:
        """Return what the channel is doing; connect if it is IDLE and `try_to_connect` is true."""
        if self._closed:
            return ChannelConnectivity.SHUTDOWN
        state = self._states.now
        if try_to_connect and state is ChannelConnectivity.IDLE:
            self._policy.connection_wanted()
        return state

    async def wait_for_state_change(self, last_observed_state: ChannelConnectivity) -> None:
        """Wait until the state is another.

        Raises:
            grpc.aio.UsageError: the channel is closed.
        """
        if self._closed:
            raise aio.UsageError(_CLOSED)
        await self._states.leave(last_observed_state)

    async def channel_ready(self) -> None:
        """Connect, and wait until that has succeeded, however long it takes."""
        while (state := self.get_state(try_to_connect=True)) is not ChannelConnectivity.READY:
            await self.wait_for_state_change(state)

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self._method("unary_unary", method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self._method("unary_stream", method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self._method("stream_unary", method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self._method("stream_stream", method, request_serializer, response_deserializer)

    def _method(
        self,
        kind: str,
        method: str,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
    ) -> Any:
        def make(name: bytes) -> Any:
            return _KINDS[kind](
                self,
                self._dispatcher,
                name,
                serialize,
                deserialize,
                self._authorize,
                self._always_authorize,
                self._compression,
            )

        name = method.encode() if isinstance(method, str) else method
        if interceptors := self._interceptors[kind]:
            return INTERCEPTED[kind](name, interceptors, make)
        return make(name)


def insecure_channel(
    target: str,
    options: Sequence[tuple[str, Any]] | None = None,
    compression: grpc.Compression | None = None,
    interceptors: Sequence[aio.ClientInterceptor] | None = None,
) -> Channel:
    """Return a channel without TLS to `target`.

    Raises:
        ConfigError: the target or an option cannot be understood or is not supported.
        ValueError: an interceptor is not a grpc.aio.ClientInterceptor.
    """
    return Channel(target, options, None, compression, interceptors)


def secure_channel(
    target: str,
    credentials: grpc.ChannelCredentials,
    options: Sequence[tuple[str, Any]] | None = None,
    compression: grpc.Compression | None = None,
    interceptors: Sequence[aio.ClientInterceptor] | None = None,
) -> Channel:
    """Return a channel over TLS to `target`, with grpcio's credentials or those of `ssl_channel_credentials`.

    Raises:
        TypeError: credentials of this kind are not supported.
        ConfigError: the target, an option or a certificate cannot be understood or is not supported.
        ValueError: an interceptor is not a grpc.aio.ClientInterceptor.
    """
    return Channel(target, options, channel_security(credentials), compression, interceptors)


def _working_loop() -> asyncio.AbstractEventLoop:
    """Return the running loop, or else the one that is going to run, as grpc.aio does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.get_event_loop_policy().get_event_loop()


def _let_go(dispatcher: Dispatcher, policy: Policy) -> None:
    """Disconnect a channel that nobody holds any more, once its calls have ended."""

    async def wait() -> None:
        await dispatcher.wait_idle()
        policy.let_go()

    dispatcher.stop()
    if dispatcher.busy:
        task = asyncio.get_running_loop().create_task(wait())
        _letting_go.add(task)
        task.add_done_callback(_letting_go.discard)
    else:
        policy.let_go()


_letting_go: set[asyncio.Task[None]] = set()
