"""Channels for threads on the native transport: grpc's blocking interface, without an event loop.

A call is made in the thread that makes it: that one connects, sends, and reads, for the others as well while
they wait (see `_ext/aio/sharing.pyx`). Only a call with a stream of requests has a thread, which reads them
from their iterator, and a channel that somebody has subscribed to, which tells them its states. What
grpc.Channel has beyond that is not here: `future()` and interceptors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from tai_grpc.aio._blocking_calls import (
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from tai_grpc.aio._blocking_keeper import Keeper
from tai_grpc.aio._blocking_start import Starter
from tai_grpc.aio._blocking_states import Subscriptions
from tai_grpc.aio._channel_options import channel_options
from tai_grpc.aio._connection import settings_of
from tai_grpc.aio._credentials import ChannelSecurity, channel_security
from tai_grpc.aio._target import parse
from tai_grpc.errors import ConfigError


class BlockingChannel:
    """Made by `blocking_channel`; for any number of threads. It holds nothing until its first call.

    After a fork the child's copy begins without a connection, and works; a call that was under way at the
    fork ends with UNAVAILABLE there, and goes on in the parent.
    """

    def __init__(
        self, target: str, options: Sequence[tuple[str, Any]] | None, security: ChannelSecurity | None
    ) -> None:
        parsed = parse(target)
        chosen = channel_options(options)
        if chosen.policy != "pick_first":
            raise ConfigError("options['grpc.lb_policy_name']", chosen.policy, "pick_first on this channel")
        settings = settings_of(parsed, chosen, None if security is None else security.ssl_context)
        self.keeper = Keeper(parsed, settings)
        self._subscriptions = Subscriptions(self.keeper)
        self.starter = Starter(
            self.keeper, settings, chosen, () if security is None else security.call_credentials
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more calls, end those under way with CANCELLED, and disconnect. Closing twice is fine."""
        self.starter.close()

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], object], try_to_connect: bool | None = False
    ) -> None:
        """Have a thread call `callback` with the state of the channel, now and whenever it is another.

        With `try_to_connect` it connects, again and again until it has succeeded once or nobody is
        subscribed. As there is no thread that would watch a connection without calls, its loss is told when
        the next call finds it lost. The last state is SHUTDOWN, after `close`. The child of a fork has no
        subscriptions.
        """
        self._subscriptions.add(callback, connect=bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], object]) -> None:
        """End one subscription of `callback`, if there is one. A call of it may be under way still."""
        self._subscriptions.remove(callback)

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnaryMultiCallable:
        return UnaryUnaryMultiCallable(self.starter, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStreamMultiCallable:
        return UnaryStreamMultiCallable(self.starter, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnaryMultiCallable:
        return StreamUnaryMultiCallable(self.starter, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStreamMultiCallable:
        return StreamStreamMultiCallable(self.starter, method, request_serializer, response_deserializer)


def blocking_channel(
    target: str,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] | None = None,
) -> BlockingChannel:
    """Return a channel for threads to `target`, without TLS when there are no credentials.

    Raises:
        TypeError: credentials of this kind are not supported.
        ConfigError: the target, an option or a certificate cannot be understood or is not supported.
    """
    return BlockingChannel(target, options, None if credentials is None else channel_security(credentials))
