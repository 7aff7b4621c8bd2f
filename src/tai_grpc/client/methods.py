"""What a generated stub asks of a channel: the methods by which it makes calls, one of each kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

from grpc import CallCredentials, Compression, StatusCode, aio

from tai_grpc.status import Metadata
from tai_grpc.transport.base import CallOptions, Reply

Kind = Literal["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]
MetadataArgument = aio.Metadata | Sequence[tuple[str, str | bytes]]


def as_is(data: bytes) -> bytes:
    """Stand in for a serializer or deserializer that is None."""
    return data


class FinishedCall:
    """What `with_call` returns beside the response: how the call ended."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def code(self) -> StatusCode:
        return self._reply.code

    def details(self) -> str:
        return self._reply.details

    def initial_metadata(self) -> Metadata:
        return self._reply.initial_metadata

    def trailing_metadata(self) -> Metadata:
        return self._reply.trailing_metadata


class BlockingMethod(ABC):
    """A method as threads call it: it returns an iterator over the responses."""

    def __call__(  # noqa: PLR0917 - grpc's own signature
        self,
        request: Any,
        timeout: float | None = None,
        metadata: MetadataArgument | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> Any:
        return self._called(request, CallOptions(timeout, metadata, credentials, wait_for_ready, compression))

    @abstractmethod
    def _called(self, request: Any, options: CallOptions) -> Any: ...


class OneResponseMethod(BlockingMethod):
    """One that returns its one response, or that and how the call ended."""

    def with_call(  # noqa: PLR0917 - grpc's own signature
        self,
        request: Any,
        timeout: float | None = None,
        metadata: MetadataArgument | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> tuple[Any, FinishedCall]:
        """Return the response, and how the call ended."""
        return self._ended(request, CallOptions(timeout, metadata, credentials, wait_for_ready, compression))

    def _called(self, request: Any, options: CallOptions) -> Any:
        return self._ended(request, options)[0]

    @abstractmethod
    def _ended(self, request: Any, options: CallOptions) -> tuple[Any, FinishedCall]: ...


class StubChannel(ABC):
    """A channel as a stub sees it."""

    @abstractmethod
    def method(
        self, kind: Kind, name: str, serialize: Serializer | None, deserialize: Deserializer | None
    ) -> Any:
        """Return what is called to make calls of `name`, "/pkg.Service/Method"."""

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self.method("unary_unary", method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self.method("unary_stream", method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self.method("stream_unary", method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        return self.method("stream_stream", method, request_serializer, response_deserializer)
