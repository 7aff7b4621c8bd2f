"""What a generated stub asks of a channel: the methods by which it makes calls, one of each kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

from grpc import StatusCode, aio

from tai_grpc.status import Metadata
from tai_grpc.transport.base import Reply

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
