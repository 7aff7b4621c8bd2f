"""From a caller's arguments to a blocking channel's call on a connection."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import grpc
from grpc import CallCredentials, StatusCode

from tai_grpc._ext.aio.blocking_stream import BlockingStream, start
from tai_grpc._ext.aio.client_session import DEADLINE_PASSED, QUEUE_FULL
from tai_grpc.aio._blocking_keeper import Keeper, RefusalError, Waiting
from tai_grpc.aio._channel_options import ChannelOptions
from tai_grpc.aio._connection import Settings
from tai_grpc.aio._credentials import plugins_of

_MAX_TIMEOUT: Final = 315_360_000.0
"""Seconds; a timeout above it counts as this: ten years."""

Entries = tuple[tuple[str, str | bytes], ...]


class Arguments(NamedTuple):
    """What a call is made with beside its messages, as grpc has it. `timeout` is in seconds, None: none."""

    timeout: float | None = None
    metadata: Iterable[tuple[str, str | bytes]] | None = None
    credentials: CallCredentials | None = None
    wait_for_ready: bool | None = None
    compression: grpc.Compression | None = None


class Start:
    """What a call is sent with, as often as it is. `deadline_ns` is of the monotonic clock; 0: none."""

    __slots__ = ("deadline_ns", "encoding", "metadata", "method", "request", "single", "wait_for_ready")

    def __init__(
        self,
        method: bytes,
        request: bytes | None,
        metadata: Entries,
        deadline_ns: int,
        *,
        encoding: int,
        wait_for_ready: bool,
        single: bool,
    ) -> None:
        self.method = method
        self.request = request
        self.metadata = metadata
        self.deadline_ns = deadline_ns
        self.encoding = encoding
        self.wait_for_ready = wait_for_ready
        self.single = single

    def on(self, keeper: Keeper, waiting: Waiting) -> BlockingStream:
        """Start it on a connection.

        Raises:
            RefusalError: it ended before.
            TypeError, ValueError: a key or value of the metadata cannot be sent.
        """
        if self.deadline_ns and time.monotonic_ns() >= self.deadline_ns:
            raise RefusalError(StatusCode.DEADLINE_EXCEEDED, DEADLINE_PASSED)
        while True:
            connection = keeper.connection(self.deadline_ns, waiting, wait_for_ready=self.wait_for_ready)
            if connection.is_full():
                raise RefusalError(StatusCode.RESOURCE_EXHAUSTED, QUEUE_FULL)
            stream = start(
                connection,
                self.method,
                self.metadata,
                self.request,
                self.deadline_ns,
                self.encoding,
                self.single,
            )
            if stream is not None:
                return stream


class Starter:
    """Makes of the arguments of a channel's calls what they are sent with."""

    def __init__(
        self, keeper: Keeper, settings: Settings, options: ChannelOptions, always: Sequence[CallCredentials]
    ) -> None:
        self.keeper = keeper
        self.max_send_bytes = options.max_send_message_bytes
        self._encoding = int(options.compression)
        self._host = settings.authority.removesuffix(":443")
        self._secure = settings.ssl_context is not None
        self._plugins = plugins_of(always)
        self._closed = False

    def close(self) -> None:
        """Start no more calls, and end those there are."""
        self._closed = True
        self.keeper.close()

    def start(self, method: str, request: bytes | None, arguments: Arguments, *, single: bool) -> Start:
        """Return what a call is sent with; `request` is None when they are a stream.

        Raises:
            ValueError: the channel is closed, or an argument is out of its range.
            RefusalError: the call ends before it was sent.
        """
        if self._closed:
            raise ValueError("Cannot invoke RPC on closed channel!")
        if request is not None:
            self.check_size(request)
        timeout, metadata, credentials, wait_for_ready, compression = arguments
        encoding = self._encoding if compression is None else int(grpc.Compression(compression))
        deadline_ns = _deadline(timeout)
        entries = tuple(metadata or ())
        if credentials is not None or self._plugins:
            entries += self._authorization(method, credentials, deadline_ns)
        return Start(
            method.encode(),
            request,
            entries,
            deadline_ns,
            encoding=encoding,
            wait_for_ready=bool(wait_for_ready),
            single=single,
        )

    def check_size(self, message: bytes) -> None:
        """Raise RefusalError if it is larger than may be sent."""
        if 0 <= self.max_send_bytes < len(message):
            raise RefusalError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"Sent message larger than max ({len(message)} vs. {self.max_send_bytes})",
            )

    def _authorization(self, method: str, credentials: CallCredentials | None, deadline_ns: int) -> Entries:
        """Ask the plugins of call credentials, in this thread, for their metadata."""
        if not self._secure:
            raise RefusalError(
                StatusCode.UNAUTHENTICATED, "call credentials are only sent on a channel with TLS"
            )
        plugins = self._plugins if credentials is None else (*self._plugins, *plugins_of((credentials,)))
        service, _, name = method.rpartition("/")
        found: list[tuple[str, str | bytes]] = []
        for plugin in plugins:
            answers: queue.SimpleQueue[tuple[Any, Any, Any]] = queue.SimpleQueue()
            plugin(f"https://{self._host}{service}", name, lambda *answer, to=answers: to.put(answer))
            left = max(0.0, deadline_ns * 1e-9 - time.monotonic()) if deadline_ns else None
            try:
                metadata, code, details = answers.get(timeout=left)
            except queue.Empty:
                raise RefusalError(StatusCode.DEADLINE_EXCEEDED, DEADLINE_PASSED) from None
            if code != 0:
                text = details.decode("utf-8", "replace") if isinstance(details, bytes) else str(details)
                raise RefusalError(
                    StatusCode.UNAVAILABLE, f"Getting metadata from plugin failed with error: {text}"
                )
            found += metadata or ()
        return tuple(found)


def _deadline(timeout: float | None) -> int:
    if timeout is None:
        return 0
    if math.isnan(timeout):
        raise ValueError("timeout must be a number of seconds: got nan")
    return time.monotonic_ns() + round(min(max(timeout, 0.0), _MAX_TIMEOUT) * 1e9)
