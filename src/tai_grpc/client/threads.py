"""The channel that generated stubs are built on for threads: their calls, with the client's layers around."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Self

from grpc import CallCredentials, Compression, StatusCode

from tai_grpc.client.invocation import Invocation, call_error
from tai_grpc.client.methods import (
    Deserializer,
    FinishedCall,
    Kind,
    MetadataArgument,
    Serializer,
    StubChannel,
    as_is,
)
from tai_grpc.client.thread_layers import ThreadLayers
from tai_grpc.client.thread_stream import ThreadStream
from tai_grpc.transport.base import CallOptions, Reply


class ThreadChannel(ThreadLayers, StubChannel):
    """What a generated stub asks of a `grpc.Channel`, over a client's layers."""

    @property
    def channel(self) -> Self:
        """What stubs are made on."""
        return self

    def method(
        self, kind: Kind, name: str, serialize: Serializer | None, deserialize: Deserializer | None
    ) -> _MultiCallable:
        return _KINDS[kind](self, name, serialize, deserialize)


class _MultiCallable:
    """One method of a service."""

    def __init__(
        self,
        channel: ThreadChannel,
        method: str,
        serialize: Serializer | None,
        deserialize: Deserializer | None,
    ) -> None:
        self._channel = channel
        self._method = method
        self._serialize: Serializer = serialize or as_is
        self._deserialize: Deserializer = deserialize or as_is


class _OneResponse(_MultiCallable, ABC):
    """Calling it returns the response."""

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request: Any,
        timeout: float | None = None,
        metadata: MetadataArgument | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> Any:
        return self.with_call(request, timeout, metadata, credentials, wait_for_ready, compression)[0]

    def with_call(  # noqa: PLR0917 - as above
        self,
        request: Any,
        timeout: float | None = None,
        metadata: MetadataArgument | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> tuple[Any, FinishedCall]:
        """Return the response, and how the call ended."""
        options = CallOptions(timeout, metadata, credentials, wait_for_ready, compression)
        call = Invocation(self._method, options, long_lived=False)
        reply = self._ended(call, request)
        if not reply.ok:
            raise call_error(call, reply)
        return _message(call, reply.message or b"", self._deserialize), FinishedCall(reply)

    @abstractmethod
    def _ended(self, call: Invocation, request: Any) -> Reply:
        """Make the call, to its end."""


class _UnaryUnary(_OneResponse):
    def _ended(self, call: Invocation, request: Any) -> Reply:
        return self._channel.unary(call, self._serialize(request))


class _StreamUnary(_OneResponse):
    def _ended(self, call: Invocation, request: Any) -> Reply:
        stream = ThreadStream(self._channel, call, None, _serialized(request, self._serialize))
        try:
            return stream.end()
        except BaseException:
            stream.cancel()
            stream.settle()
            raise


class _StreamOfResponses(_MultiCallable, ABC):
    """Calling it returns an iterator over the responses."""

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request: Any,
        timeout: float | None = None,
        metadata: MetadataArgument | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> ResponseStream:
        options = CallOptions(timeout, metadata, credentials, wait_for_ready, compression)
        call = Invocation(self._method, options, long_lived=True)
        return ResponseStream(self._started(call, request), self._deserialize)

    @abstractmethod
    def _started(self, call: Invocation, request: Any) -> ThreadStream: ...


class _UnaryStream(_StreamOfResponses):
    def _started(self, call: Invocation, request: Any) -> ThreadStream:
        return ThreadStream(self._channel, call, self._serialize(request), None)


class _StreamStream(_StreamOfResponses):
    def _started(self, call: Invocation, request: Any) -> ThreadStream:
        return ThreadStream(self._channel, call, None, _serialized(request, self._serialize))


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


class ResponseStream:
    """An iterator over a call's responses; any thread may cancel it. Dropping it ends the call."""

    def __init__(self, stream: ThreadStream, deserialize: Deserializer) -> None:
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


_KINDS: Final[dict[Kind, type[_MultiCallable]]] = {
    "unary_unary": _UnaryUnary,
    "unary_stream": _UnaryStream,
    "stream_unary": _StreamUnary,
    "stream_stream": _StreamStream,
}
