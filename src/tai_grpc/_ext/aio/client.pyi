import asyncio
from typing import Protocol

from typing_extensions import disjoint_base

from tai_grpc._ext.aio.connection import Connection

class _Listener(Protocol):
    def connection_ready(self, connection: ClientConnection) -> None: ...
    def connection_draining(self, connection: ClientConnection, too_many_pings: bool) -> None: ...
    def connection_gone(self, connection: ClientConnection, error: BaseException | None) -> None: ...

@disjoint_base
class ClientConnection(Connection):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: _Listener,
        authority: bytes,
        user_agent: bytes,
        *,
        secure: bool = False,
        max_message_bytes: int = ...,
        max_header_bytes: int = ...,
        window_bytes: int = ...,
        max_unread_bytes: int = 0,
        keepalive_ns: int = 0,
        keepalive_timeout_ns: int = ...,
        keepalive_without_calls: bool = False,
    ) -> None: ...
    @property
    def secure(self) -> bool: ...
    @property
    def max_message_bytes(self) -> int: ...
    @property
    def ready(self) -> bool: ...
    @property
    def draining(self) -> bool: ...
    @property
    def served(self) -> bool: ...
    @property
    def dismissed(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def calls(self) -> int: ...
    def drain(self) -> None: ...
    def abort(self, reason: str) -> None: ...
