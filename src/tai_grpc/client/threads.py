"""The channel that generated stubs are built on for threads: their calls, with the client's layers around."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Self

from grpc import StatusCode

from tai_grpc.client.invocation import Invocation, call_error
from tai_grpc.client.methods import (
    BlockingMethod,
    Deserializer,
    FinishedCall,
    Kind,
    OneResponseMethod,
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
    ) -> _Method:
        return _KINDS[kind](self, name, serialize, deserialize)


class _Method(BlockingMethod):
    """What the four kinds have."""

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

    def _checked(self, call: Invocation, reply: Reply) -> tuple[Any, FinishedCall]:
        if not reply.ok:
            raise call_error(call, reply)
        return _message(call, reply.message or b"", self._deserialize), FinishedCall(reply)


class _UnaryUnary(_Method, OneResponseMethod):
    def _ended(self, request: Any, options: CallOptions) -> tuple[Any, FinishedCall]:
        call = Invocation(self._method, options, long_lived=False)
        return self._checked(call, self._channel.unary(call, self._serialize(request)))


class _StreamUnary(_Method, OneResponseMethod):
    def _ended(self, request: Any, options: CallOptions) -> tuple[Any, FinishedCall]:
        call = Invocation(self._method, options, long_lived=False)
        stream = ThreadStream(self._channel, call, None, _serialized(request, self._serialize))
        try:
            reply = stream.end()
        except BaseException:
            stream.cancel()
            stream.settle()
            raise
        return self._checked(call, reply)


class _UnaryStream(_Method):
    def _called(self, request: Any, options: CallOptions) -> ResponseStream:
        call = Invocation(self._method, options, long_lived=True)
        stream = ThreadStream(self._channel, call, self._serialize(request), None)
        return ResponseStream(stream, self._deserialize)


class _StreamStream(_Method):
    def _called(self, request: Any, options: CallOptions) -> ResponseStream:
        call = Invocation(self._method, options, long_lived=True)
        stream = ThreadStream(self._channel, call, None, _serialized(request, self._serialize))
        return ResponseStream(stream, self._deserialize)


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


_KINDS: Final[dict[Kind, type[_Method]]] = {
    "unary_unary": _UnaryUnary,
    "unary_stream": _UnaryStream,
    "stream_unary": _StreamUnary,
    "stream_stream": _StreamStream,
}
