from asyncio import AbstractEventLoop, Future
from collections.abc import Awaitable, Callable
from ssl import SSLObject
from typing import Any, TypeAlias

from typing_extensions import disjoint_base

from tai_grpc._ext.aio.server import ServerConnection

_Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

@disjoint_base
class Method:
    def __new__(
        cls,
        path: str,
        source: object,
        behaviour: Callable[..., Any],
        deserialize: Callable[[bytes], Any] | None,
        serialize: Callable[[Any], bytes] | None,
        request_streams: bool,
        response_streams: bool,
        generates: bool,
    ) -> Method: ...
    @property
    def path(self) -> str: ...
    @property
    def source(self) -> Any: ...
    @property
    def request_streams(self) -> bool: ...
    @property
    def response_streams(self) -> bool: ...
    @property
    def generates(self) -> bool: ...

@disjoint_base
class Service:
    def __new__(
        cls,
        loop: AbstractEventLoop,
        methods: dict[bytes, Method],
        resolve: Callable[[str, _Metadata], tuple[Method | None, bool]] | None,
        intercept: Callable[[str, _Metadata], Awaitable[Method | None]] | None,
        report: Callable[[str, BaseException, str, _Metadata, str], None],
        describe_peer: Callable[[SSLObject | None], dict[str, list[bytes]]],
        *,
        encoding: int,
        max_send_bytes: int,
        max_calls: int | None,
        max_connections: int,
        handshake_timeout: float | None,
        keepalive_time: float | None,
        keepalive_timeout: float | None,
        keepalive_without_calls: bool,
        max_age: float | None,
        max_age_grace: float | None,
        max_idle: float | None,
        max_timeout: float | None,
        max_stream_timeout: float | None,
        stall_timeout: float | None,
        stream_stall_timeout: float | None,
        max_queued_bytes: int,
        session: dict[str, int],
    ) -> Service: ...
    @property
    def loop(self) -> AbstractEventLoop: ...
    @property
    def connections(self) -> set[ServerConnection]: ...
    @property
    def calls(self) -> int: ...
    @property
    def admitted(self) -> int: ...
    @property
    def draining(self) -> bool: ...
    def drain(self) -> Future[None]: ...
    def cut(self) -> None: ...
