"""The client's layers driven by the threads that make the calls: no event loop, no thread of its own.

The order is that of `_ext/primitives/outbound.pyx`, and what a failed attempt leads to that of `layers.py`.
One lock is around what is asked of the layers, never around an attempt. A callback of a breaker runs in the
thread whose call changed its state, under that lock; calls that it makes are possible and hold up the others.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from grpc import CallCredentials, Compression, StatusCode

from tai_grpc.aio._blocking import feed
from tai_grpc.aio._blocking_attempt import Attempt, RefusalError
from tai_grpc.client.channel import (
    CLOSED,
    CUT_OFF,
    MAX_IN_FLIGHT,
    Deserializer,
    MetadataArgument,
    Serializer,
    client_stats,
)
from tai_grpc.client.endpoints import EndpointTable
from tai_grpc.client.invocation import Invocation, call_error
from tai_grpc.client.layers import Layers
from tai_grpc.client.stats import ClientStats
from tai_grpc.config import GrpcClientConfig
from tai_grpc.errors import CircuitOpenError, DeadlineError, TaiGrpcError
from tai_grpc.resilience import CircuitBreaker, EndpointStats
from tai_grpc.transport.base import CallOptions, Reply
from tai_grpc.transport.blocking import BlockingTransport, stream_reply

_CANCELLED: Final = Reply(StatusCode.CANCELLED, "cancelled by the caller")
_CLOSED_OFF: Final = Reply(StatusCode.CANCELLED, CUT_OFF)


class ThreadChannel:
    """What a generated stub asks of a `grpc.Channel`, with the client's layers around every call."""

    def __init__(self, config: GrpcClientConfig) -> None:
        self.endpoints = EndpointTable(config, BlockingTransport)
        self.layers = Layers(config, self.endpoints)
        self.lock = threading.RLock()
        self._connecting = threading.RLock()  # a signal's handler may close the client
        self._closed = False
        self._in_flight = 0
        self._idle = threading.Condition()
        self.cut_off = threading.Event()
        self._streams: weakref.WeakSet[_Stream] = weakref.WeakSet()

    def close(self, grace: float | None = None) -> None:
        """Refuse new calls, give those in flight `grace` seconds to end (None: none), end the others with
        CANCELLED, and disconnect.
        """
        self._closed = True
        if grace:
            with self._idle:
                self._idle.wait_for(lambda: self._in_flight == 0, grace)
        self.cut_off.set()
        with self._connecting:
            transports = self.endpoints.take()
        for transport in transports:
            transport.close(CUT_OFF)
        for stream in list(self._streams):
            stream.wake()

    @property
    def channel(self) -> Any:
        """What stubs are made on."""
        return self

    def breaker(self, address: str) -> CircuitBreaker:
        return self.endpoints.breaker(address)

    def endpoint_stats(self) -> list[EndpointStats]:
        return self.endpoints.stats()

    def stats(self) -> ClientStats:
        """Return what has been counted since the channel was made."""
        return client_stats(self.layers, self.endpoints)

    def enter(self) -> bool:
        """Let a call in; False when there are too many.

        Raises:
            TaiGrpcError: the client is closed.
        """
        if self._closed:
            raise TaiGrpcError(CLOSED)
        with self._idle:
            self._in_flight += 1
            return self._in_flight <= MAX_IN_FLIGHT

    def leave(self) -> None:
        with self._idle:
            self._in_flight -= 1
            if self._closed and self._in_flight == 0:
                self._idle.notify_all()

    def begin(self, call: Invocation) -> Reply | None:
        """Let a call into the layers; return what it ends with at once, if it does."""
        try:
            with self.lock:
                self.layers.begin(call)
        except DeadlineError as error:
            return Reply(StatusCode.DEADLINE_EXCEEDED, str(error), sent=False)
        return None

    def attempt(self, call: Invocation) -> BlockingTransport | Reply:
        """Return where the next attempt goes, or what the call ends with as there is none."""
        if self.cut_off.is_set():
            return _CLOSED_OFF
        try:
            with self.lock:
                endpoint = self.layers.attempt(call)
        except CircuitOpenError:
            return self.layers.refusal()
        with self._connecting:
            transport = self.endpoints.transport(endpoint.address)
        if self.cut_off.is_set():  # `close` may not have seen this one
            transport.close(CUT_OFF)
        return transport

    def after(self, call: Invocation, reply: Reply) -> float | None:
        """Take note of a failed attempt; return the seconds until the next one, None: it was the last."""
        with self.lock:
            wait = self.layers.after(call, reply)
        return None if self.cut_off.is_set() else wait

    def unary(self, call: Invocation, request: bytes) -> Reply:
        """Make a unary call: as many attempts as the layers want, with the waits between them."""
        if not self.enter():
            self.leave()
            return Reply(
                StatusCode.RESOURCE_EXHAUSTED, f"this client has {MAX_IN_FLIGHT} calls in flight", sent=False
            )
        ok = ended = False
        try:
            reply = self.begin(call)
            if reply is None:
                reply = self._attempts(call, request)
            ok = reply.code is StatusCode.OK
            ended = True
        except Exception:
            ended = True
            raise
        finally:
            with self.lock:
                self.layers.release(call, None)
                if ended:
                    self.layers.end(call, ok=ok)
                else:  # a signal's handler has raised something
                    self.layers.give_up(call)
            self.leave()
        return reply

    def _attempts(self, call: Invocation, request: bytes) -> Reply:
        while True:
            transport = self.attempt(call)
            if isinstance(transport, Reply):
                return transport
            reply, call.committed = transport.unary(call.method, request, sent_with(call))
            if reply.code is StatusCode.OK:
                with self.lock:
                    self.layers.succeeded(call)
                return reply
            if self.cut_off.is_set():
                return reply
            wait = self.after(call, reply)
            if wait is None:
                return reply
            if wait > 0 and self.cut_off.wait(wait):
                return _CLOSED_OFF

    def track(self, stream: _Stream) -> None:
        self._streams.add(stream)

    # --- As grpc.Channel ---

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> _MultiCallable:
        return _UnaryUnary(self, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> _MultiCallable:
        return _UnaryStream(self, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> _MultiCallable:
        return _StreamUnary(self, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> _MultiCallable:
        return _StreamStream(self, method, request_serializer, response_deserializer)


def sent_with(call: Invocation) -> CallOptions:
    """Return what the next attempt is sent with: the time that is left, and the metadata as it is by now."""
    return call.options._replace(timeout=call.time_left(), metadata=call.sent_metadata())


def _as_is(data: bytes) -> bytes:
    return data


class _MultiCallable(ABC):
    """One method of a service. Calling it returns the response, or an iterator over the responses."""

    def __init__(
        self,
        channel: ThreadChannel,
        method: str,
        serialize: Serializer | None,
        deserialize: Deserializer | None,
    ) -> None:
        self._channel = channel
        self._method = method
        self._serialize: Serializer = serialize or _as_is
        self._deserialize: Deserializer = deserialize or _as_is

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request: Any,
        timeout: float | None = None,
        metadata: MetadataArgument | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> Any:
        options = CallOptions(timeout, tuple(metadata or ()), credentials, wait_for_ready, compression)
        return self._make(request, options)

    @abstractmethod
    def _make(self, request: Any, options: CallOptions) -> Any: ...


class _UnaryUnary(_MultiCallable):
    def _make(self, request: Any, options: CallOptions) -> Any:
        call = Invocation(self._method, options, long_lived=False)
        reply = self._channel.unary(call, self._serialize(request))
        if reply.code is not StatusCode.OK:
            raise call_error(call, reply)
        return _message(call, reply.message or b"", self._deserialize)


class _UnaryStream(_MultiCallable):
    def _make(self, request: Any, options: CallOptions) -> ResponseStream:
        call = Invocation(self._method, options, long_lived=True)
        return ResponseStream(_Stream(self._channel, call, self._serialize(request), None), self._deserialize)


class _StreamUnary(_MultiCallable):
    def _make(self, request: Any, options: CallOptions) -> Any:
        call = Invocation(self._method, options, long_lived=False)
        stream = _Stream(self._channel, call, None, _serialized(request, self._serialize))
        try:
            reply = stream.end()
        except BaseException:
            stream.cancel()
            stream.settle()
            raise
        return _message(call, reply.message or b"", self._deserialize)


class _StreamStream(_MultiCallable):
    def _make(self, request: Any, options: CallOptions) -> ResponseStream:
        call = Invocation(self._method, options, long_lived=True)
        return ResponseStream(
            _Stream(self._channel, call, None, _serialized(request, self._serialize)), self._deserialize
        )


def _serialized(requests: Iterable[Any], serialize: Serializer) -> Iterator[bytes]:
    for request in requests:
        yield serialize(request)


def _message(call: Invocation, data: bytes, deserialize: Callable[[bytes], Any]) -> Any:
    try:
        return deserialize(data)
    except Exception as error:
        raise call_error(
            call, Reply(StatusCode.INTERNAL, f"the response cannot be read: {error!r}")
        ) from error


class _Stream:
    """A call with a stream on either side, over the attempts that it takes until it is committed to one.

    With one request the response's headers commit it, otherwise its being on a connection: a stream of
    requests is sent once. Attempts are made by whoever waits for the call: while nobody does, a failed one is
    not followed by another.
    """

    def __init__(
        self,
        channel: ThreadChannel,
        call: Invocation,
        request: bytes | None,
        requests: Iterator[bytes] | None,
    ) -> None:
        self.call = call
        self._channel = channel
        self._request = request
        self._requests = requests
        self._attempt: Attempt | None = None
        self._reply: Reply | None = None
        self._failure: Exception | None = None
        self._heard = False
        self._cancelled = False
        self._lock = threading.RLock()
        self._woken = threading.Event()
        self._over = False
        if not channel.enter():
            channel.leave()
            self._over = True
            self._reply = Reply(
                StatusCode.RESOURCE_EXHAUSTED, f"this client has {MAX_IN_FLIGHT} calls in flight", sent=False
            )
            return
        channel.track(self)
        try:
            self._reply = channel.begin(call)
            if self._reply is None:
                self._start()
                if request is None:
                    self._commit()
        except BaseException:
            self._over = True
            with channel.lock:
                channel.layers.release(call, None)
                channel.layers.end(call, ok=False)
            channel.leave()
            raise
        self._leave_if_over()

    # --- Attempts ---

    def _start(self) -> None:
        """Start an attempt; `_attempt` is None when that has ended the call or failed at once."""
        transport = self._channel.attempt(self.call)
        self._attempt = None
        if isinstance(transport, Reply):
            self._reply = transport
            return
        try:
            self._attempt = transport.stream(
                self.call.method, self._request, sent_with(self.call), single=not self.call.long_lived
            )
        except RefusalError as refusal:
            self._after(Reply(refusal.code, refusal.details, sent=False))
            return
        if self._cancelled:
            self._attempt.cancel()

    def _after(self, reply: Reply) -> None:
        """An attempt has ended without committing the call."""
        if reply.code is StatusCode.OK or self._cancelled:
            self._reply = reply
            return
        wait = self._channel.after(self.call, reply)
        if wait is None:
            self._reply = reply
            return
        if wait > 0:
            self._woken.wait(wait)
        if self._cancelled or self._channel.cut_off.is_set():
            self._reply = _CANCELLED if self._cancelled else _CLOSED_OFF
            return
        self._start()

    def _commit(self) -> Attempt | None:
        """Wait for the attempt that the call is committed to; None when it ended without one."""
        if self.call.committed:
            return self._attempt
        with self._lock:
            while self._reply is None and not self.call.committed:
                attempt = self._attempt
                if attempt is None:
                    self._start()
                elif attempt.connected() if self._request is None else attempt.answered():
                    if self._request is not None:
                        self._proven()
                    if self._requests is not None:
                        feed(attempt, self._requests, self._source_failed)
                    self.call.committed = True
                else:
                    attempt.wait_ended()
                    self._after(stream_reply(attempt))
            return self._attempt if self.call.committed else None

    def _source_failed(self, error: Exception) -> None:
        self._failure = error
        if self._attempt is not None:
            self._attempt.cancel()

    def _proven(self) -> None:
        with self._channel.lock:
            self._channel.layers.proven(self.call)

    # --- For its caller ---

    def read(self) -> bytes | None:
        """Wait for the next response message; None after the last one of a call that ended with OK."""
        attempt = self._commit()
        data = None if attempt is None else attempt.read()
        if data is None:
            self.end()
        elif not self._heard:
            self._heard = True
            self._proven()
        return data

    def end(self) -> Reply:
        """Wait for the end; raise how the call has failed."""
        reply = self.reply()
        if self._failure is not None:
            raise self._failure
        if reply.code is not StatusCode.OK:
            raise call_error(self.call, reply)
        return reply

    def reply(self) -> Reply:
        """Wait for the status. The call is over once the messages before it were read."""
        attempt = self._commit()
        if attempt is not None:
            attempt.wait_ended()
        with self._lock:
            if self._reply is None and attempt is not None:
                message = None if self.call.long_lived else attempt.read()
                reply = self._described(attempt, message)
                if not attempt.all_read:
                    return reply
                self._reply = reply
            self._leave_if_over()
            assert self._reply is not None  # noqa: S101 - `_commit` leaves an attempt or a reply
            return self._reply

    def _described(self, attempt: Attempt, message: bytes | None) -> Reply:
        if self._cancelled and attempt.code is StatusCode.CANCELLED:
            return _CANCELLED
        reply = stream_reply(attempt, message)
        if not self.call.long_lived and reply.code is StatusCode.OK and message is None:
            return reply._replace(code=StatusCode.INTERNAL, details="the server sent no response message")
        return reply

    def initial_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        attempt = self._commit()
        if attempt is None:
            return self.reply().initial_metadata
        attempt.answered()
        return attempt.initial_metadata()

    def cancel(self) -> None:
        self._cancelled = True
        self._woken.set()
        if self._attempt is not None:
            self._attempt.cancel()

    def wake(self) -> None:
        """End the wait for the next attempt: the client was closed. What is under way has been told."""
        self._woken.set()

    def settle(self) -> None:
        """It was cancelled, and nobody waits for it any more: end it in the layers."""
        with self._lock:
            if self._reply is None:
                self._reply = _CANCELLED
            self._leave_if_over()

    def abandon(self) -> None:
        """Its reader is gone: from a finalizer."""
        self._cancelled = True
        if self._attempt is not None:
            self._attempt.abandon()
        self.settle()

    def _leave_if_over(self) -> None:
        with self._lock:
            if self._reply is None or self._over:
                return
            self._over = True
            reply = self._reply
        channel = self._channel
        with channel.lock:
            if self._cancelled and reply.code is StatusCode.CANCELLED:
                channel.layers.give_up(self.call)
            elif reply.code is StatusCode.OK:
                channel.layers.succeeded(self.call)
                channel.layers.end(self.call, ok=True)
            else:
                if self.call.committed:
                    channel.layers.after(self.call, reply)
                channel.layers.release(self.call, None)
                channel.layers.end(self.call, ok=False)
        channel.leave()


class ResponseStream:
    """An iterator over a call's responses; any thread may cancel it. Dropping it ends the call."""

    def __init__(self, stream: _Stream, deserialize: Deserializer) -> None:
        self._stream = stream
        self._deserialize = deserialize

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        data = self._stream.read()
        if data is None:
            raise StopIteration
        return _message(self._stream.call, data, self._deserialize)

    def cancel(self) -> None:
        """Give the call up; whoever waits for its next response gets a CallError."""
        self._stream.cancel()

    def code(self) -> StatusCode:
        """Wait for the end and return its status code."""
        return self._stream.reply().code

    def details(self) -> str:
        return self._stream.reply().details

    def initial_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Wait for the response's headers."""
        return self._stream.initial_metadata()

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._stream.reply().trailing_metadata

    def __del__(self) -> None:
        self._stream.abandon()
