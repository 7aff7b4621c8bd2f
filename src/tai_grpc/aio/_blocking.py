"""Channels for threads on the native transport: grpc's blocking interface, without an event loop.

A call is made in the thread that makes it: that one connects, sends, and reads, for the others as well while
they wait (see `_ext/aio/sharing.pyx`). Only a call with a stream of requests has a thread, which reads them
from their iterator. What grpc.Channel has beyond that is not here: `future()`, `subscribe()`, interceptors.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc
from grpc import CallCredentials, StatusCode

from tai_grpc._ext.aio.blocking_stream import BlockingStream
from tai_grpc._ext.aio.client_session import DEADLINE_PASSED
from tai_grpc.aio._blocking_attempt import Attempt, Entries, Keeper, RefusalError, Start, code_of, unary
from tai_grpc.aio._channel_options import channel_options
from tai_grpc.aio._connection import settings_of
from tai_grpc.aio._credentials import ChannelSecurity, channel_security, plugins_of
from tai_grpc.aio._target import parse
from tai_grpc.errors import ConfigError

_MAX_TIMEOUT: Final = 315_360_000.0
"""Seconds; a timeout above it counts as this: ten years."""

_OK: Final = 0


class BlockingRpcError(grpc.RpcError):
    """A call failed: its status, as in any `grpc.RpcError`."""

    def __init__(
        self, code: StatusCode, details: str, initial_metadata: Entries = (), trailing_metadata: Entries = ()
    ) -> None:
        super().__init__(f"{code.name}: {details}")
        self._code = code
        self._details = details
        self._initial_metadata = initial_metadata
        self._trailing_metadata = trailing_metadata

    def code(self) -> StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def initial_metadata(self) -> Entries:
        return self._initial_metadata

    def trailing_metadata(self) -> Entries:  # type: ignore[override]  # the stubs' own tuple type is private
        return self._trailing_metadata


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
        self.encoding = int(chosen.compression)
        self.max_send_bytes = chosen.max_send_message_bytes
        self._host = settings.authority.removesuffix(":443")
        self._secure = security is not None and security.ssl_context is not None
        self._plugins = () if security is None else plugins_of(security.call_credentials)
        self._closed = False
        self.keeper = Keeper(parsed, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more calls, end those under way with CANCELLED, and disconnect. Closing twice is fine."""
        self._closed = True
        self.keeper.close()

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryUnaryMultiCallable:
        return UnaryUnaryMultiCallable(self, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> UnaryStreamMultiCallable:
        return UnaryStreamMultiCallable(self, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamUnaryMultiCallable:
        return StreamUnaryMultiCallable(self, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> StreamStreamMultiCallable:
        return StreamStreamMultiCallable(self, method, request_serializer, response_deserializer)

    def start(
        self,
        method: str,
        request: bytes | None,
        timeout: float | None,
        metadata: Iterable[tuple[str, str | bytes]] | None,
        credentials: CallCredentials | None,
        *,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
        single: bool,
    ) -> Start:
        """Return what a call is sent with.

        Raises:
            ValueError: the channel is closed, or an argument is out of its range.
            RefusalError: the call ends before it was sent.
        """
        if self._closed:
            raise ValueError("Cannot invoke RPC on closed channel!")
        if request is not None and 0 <= self.max_send_bytes < len(request):
            raise self.too_large(len(request))
        encoding = self.encoding if compression is None else int(grpc.Compression(compression))
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

    def too_large(self, size: int) -> RefusalError:
        return RefusalError(
            StatusCode.RESOURCE_EXHAUSTED, f"Sent message larger than max ({size} vs. {self.max_send_bytes})"
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


class _MultiCallable:
    """One method. `timeout` is in seconds. Errors: BlockingRpcError, and ValueError on a closed channel."""

    def __init__(
        self,
        channel: BlockingChannel,
        method: str,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
    ) -> None:
        self._channel = channel
        self._method = method
        self._serialize = serialize
        self._deserialize = deserialize

    def _serialized(self, request: Any) -> bytes:
        try:
            return request if self._serialize is None else self._serialize(request)
        except Exception as error:
            raise BlockingRpcError(
                StatusCode.INTERNAL, f"the request cannot be serialized: {error!r}"
            ) from error

    def _message(self, data: bytes | None, ended: BlockingStream | Attempt) -> Any:
        if data is None:
            raise BlockingRpcError(
                StatusCode.INTERNAL,
                "the server ended the call with OK and without a response",
                ended.initial_metadata(),
                ended.trailing_metadata(),
            )
        return _read(data, self._deserialize, ended)


class UnaryUnaryMultiCallable(_MultiCallable):
    """One request, one response."""

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        return self.with_call(request, timeout, metadata, credentials, wait_for_ready, compression)[0]

    def with_call(  # noqa: PLR0917 - as above
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, FinishedCall]:
        """Return the response, and the call with its metadata."""
        data = self._serialized(request)
        try:
            start = self._channel.start(
                self._method,
                data,
                timeout,
                metadata,
                credentials,
                wait_for_ready=wait_for_ready,
                compression=compression,
                single=True,
            )
            stream = unary(self._channel.keeper, start)
        except RefusalError as refusal:
            raise BlockingRpcError(refusal.code, refusal.details) from None
        answer = stream.read() if stream.code == _OK else None
        if stream.code != _OK:
            raise _error(stream)
        return self._message(answer, stream), FinishedCall(stream)


class FinishedCall:
    """What `with_call` gives beside the response."""

    def __init__(self, ended: BlockingStream | Attempt) -> None:
        self._ended = ended

    def code(self) -> StatusCode:
        return StatusCode.OK

    def details(self) -> str:
        return self._ended.details

    def initial_metadata(self) -> Entries:
        return self._ended.initial_metadata()

    def trailing_metadata(self) -> Entries:
        return self._ended.trailing_metadata()


class UnaryStreamMultiCallable(_MultiCallable):
    """One request, a stream of responses. The call returns once it is on a connection or has failed."""

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> ResponseIterator:
        return ResponseIterator(
            _attempt(
                self._channel,
                self._method,
                self._serialized(request),
                timeout,
                metadata,
                credentials,
                wait_for_ready,
                compression,
                single=False,
            ),
            self._deserialize,
        )


class StreamUnaryMultiCallable(_MultiCallable):
    """A stream of requests, one response."""

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        response, _ = self.with_call(
            request_iterator, timeout, metadata, credentials, wait_for_ready, compression
        )
        return response

    def with_call(  # noqa: PLR0917 - as above
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, FinishedCall]:
        """Return the response, and the call with its metadata."""
        attempt = _attempt(
            self._channel,
            self._method,
            None,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
            single=True,
        )
        _feed(self._channel, self._serialize, request_iterator, attempt)
        try:
            attempt.wait_ended()
        except BaseException:
            attempt.cancel()
            raise
        if attempt.code is not StatusCode.OK:
            raise _error(attempt)
        answer = attempt.read()
        if attempt.code is not StatusCode.OK:
            raise _error(attempt)
        return self._message(answer, attempt), FinishedCall(attempt)


class StreamStreamMultiCallable(_MultiCallable):
    """A stream of requests, a stream of responses. As `UnaryStreamMultiCallable`."""

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Iterable[tuple[str, str | bytes]] | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> ResponseIterator:
        attempt = _attempt(
            self._channel,
            self._method,
            None,
            timeout,
            metadata,
            credentials,
            wait_for_ready,
            compression,
            single=False,
        )
        _feed(self._channel, self._serialize, request_iterator, attempt)
        return ResponseIterator(attempt, self._deserialize)


class ResponseIterator:
    """An iterator over a call's responses; any thread may cancel it. Dropping it ends the call."""

    def __init__(self, attempt: Attempt, deserialize: Callable[[bytes], Any] | None) -> None:
        self._attempt = attempt
        self._deserialize = deserialize

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        data = self._attempt.read()
        if data is not None:
            return _read(data, self._deserialize, self._attempt)
        if self._attempt.code is StatusCode.OK:
            raise StopIteration
        raise _error(self._attempt)

    def cancel(self) -> bool:
        """Give the call up; False when it has ended already."""
        return self._attempt.cancel()

    def is_active(self) -> bool:
        return not self._attempt.all_read

    def code(self) -> StatusCode:
        """Wait for the status."""
        self._attempt.wait_ended()
        return self._attempt.code

    def details(self) -> str:
        self._attempt.wait_ended()
        return self._attempt.details

    def initial_metadata(self) -> Entries:
        """Wait for the response's headers."""
        self._attempt.answered()
        return self._attempt.initial_metadata()

    def trailing_metadata(self) -> Entries:
        self._attempt.wait_ended()
        return self._attempt.trailing_metadata()

    def __del__(self) -> None:
        # A thread that feeds it holds the attempt, and may be waiting for the next request.
        self._attempt.abandon()


def feed(attempt: Attempt, requests: Iterator[bytes], failed: Callable[[Exception], None]) -> None:
    """Write requests in a thread of their own; it ends with them, or when the next one finds the call ended.

    `failed` is told what their source raises.
    """

    def run() -> None:
        try:
            for request in requests:
                if not attempt.write(request):
                    return
        except Exception as error:
            failed(error)
        else:
            attempt.done_writing()

    threading.Thread(target=run, name="tai-grpc-requests", daemon=True).start()


def _feed(
    channel: BlockingChannel,
    serialize: Callable[[Any], bytes] | None,
    requests: Iterable[Any],
    attempt: Attempt,
) -> None:
    """As `feed`; what the requests' source raises ends the call with UNKNOWN, as in grpc."""

    def serialized() -> Iterator[bytes]:
        for request in requests:
            data = request if serialize is None else serialize(request)
            if 0 <= channel.max_send_bytes < len(data):
                raise channel.too_large(len(data))
            yield data

    def failed(error: Exception) -> None:
        if isinstance(error, RefusalError):
            attempt.cancel(error.code, error.details)
        else:
            attempt.cancel(StatusCode.UNKNOWN, f"Exception iterating requests! {error!r}")

    feed(attempt, serialized(), failed)


def _attempt(  # noqa: PLR0917 - grpc's own arguments
    channel: BlockingChannel,
    method: str,
    request: bytes | None,
    timeout: float | None,
    metadata: Iterable[tuple[str, str | bytes]] | None,
    credentials: CallCredentials | None,
    wait_for_ready: bool | None,
    compression: grpc.Compression | None,
    *,
    single: bool,
) -> Attempt:
    try:
        start = channel.start(
            method,
            request,
            timeout,
            metadata,
            credentials,
            wait_for_ready=wait_for_ready,
            compression=compression,
            single=single,
        )
    except RefusalError as refusal:
        raise BlockingRpcError(refusal.code, refusal.details) from None
    return Attempt(channel.keeper, start)


def _read(data: bytes, deserialize: Callable[[bytes], Any] | None, call: BlockingStream | Attempt) -> Any:
    if deserialize is None:
        return data
    try:
        return deserialize(data)
    except Exception as error:
        details = f"the response cannot be read: {error!r}"
        if isinstance(call, Attempt):
            call.fail(details)
        raise BlockingRpcError(
            StatusCode.INTERNAL, details, call.initial_metadata(), call.trailing_metadata()
        ) from error


def _error(ended: BlockingStream | Attempt) -> BlockingRpcError:
    code = ended.code if isinstance(ended, Attempt) else code_of(ended)
    return BlockingRpcError(code, ended.details, ended.initial_metadata(), ended.trailing_metadata())


def _deadline(timeout: float | None) -> int:
    if timeout is None:
        return 0
    if math.isnan(timeout):
        raise ValueError("timeout must be a number of seconds: got nan")
    return time.monotonic_ns() + round(min(max(timeout, 0.0), _MAX_TIMEOUT) * 1e9)
