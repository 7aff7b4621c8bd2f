from collections.abc import Callable
from typing import Any

from grpc import CallCredentials, Compression
from typing_extensions import disjoint_base

from tai_grpc._ext.aio.calls import StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall
from tai_grpc._ext.aio.dispatcher import Dispatcher

@disjoint_base
class MultiCallable:
    def __init__(
        self,
        channel: object,
        dispatcher: Dispatcher,
        method: bytes,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
        authorize: Callable[[Any, bytes, CallCredentials | None], None] | None,
        always_authorize: bool = False,
        encoding: int = 0,
    ) -> None: ...

class UnaryUnaryMultiCallable(MultiCallable):
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> UnaryUnaryCall: ...

class UnaryStreamMultiCallable(MultiCallable):
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> UnaryStreamCall: ...

class StreamUnaryMultiCallable(MultiCallable):
    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> StreamUnaryCall: ...

class StreamStreamMultiCallable(MultiCallable):
    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> StreamStreamCall: ...
