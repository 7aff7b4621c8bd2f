import asyncio
from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from tai_grpc._ext.aio.calls import UnaryUnaryCall
from tai_grpc._ext.aio.dispatcher import Dispatcher
from tai_grpc._ext.aio.timers import TimerEntry
from tai_grpc._ext.primitives.outbound import Outbound, OutboundCall

@disjoint_base
class Caller:
    def __init__(
        self,
        layers: Outbound,
        *,
        reply: Callable[..., Any],
        error: Callable[[OutboundCall, Any], BaseException],
        find: Callable[[str], Dispatcher],
        max_calls: int,
    ) -> None: ...
    def open(self, loop: asyncio.AbstractEventLoop) -> None: ...
    def forget(self, address: str) -> None: ...
    def stop(self, why: str) -> None: ...
    async def wait_idle(self) -> None: ...
    def cut_off(self, details: str) -> None: ...

@disjoint_base
class ResilientMethod:
    def __init__(
        self,
        caller: Caller,
        method: str,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
    ) -> None: ...
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> ResilientCall: ...

@disjoint_base
class Wait(TimerEntry): ...

@disjoint_base
class ResilientCall(UnaryUnaryCall): ...
