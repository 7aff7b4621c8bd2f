"""The channel that generated stubs are built on: every call made with it goes through the client's layers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from grpc import CallCredentials, Compression, StatusCode, aio

from tai_grpc.checks import check_type
from tai_grpc.client.calls import StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall
from tai_grpc.client.endpoints import AnyEndpoints, Endpoints
from tai_grpc.client.invocation import AnyInvocation, StreamInvocation, UnaryInvocation, as_async
from tai_grpc.client.layers import Layers, run
from tai_grpc.client.methods import Deserializer, Kind, MetadataArgument, Serializer, StubChannel, as_is
from tai_grpc.client.stats import ClientStats
from tai_grpc.config import GrpcClientConfig
from tai_grpc.errors import TaiGrpcError
from tai_grpc.transport import chosen
from tai_grpc.transport.base import CallOptions, Reply

if TYPE_CHECKING:
    from tai_grpc._ext.aio.resilient import Caller

Req = TypeVar("Req")
Res = TypeVar("Res")
Requests = AsyncIterable[Req] | Iterable[Req]

MAX_IN_FLIGHT: Final = 65_536
"""How many calls, streams included, one client may have in flight; one more ends with RESOURCE_EXHAUSTED.

Where the transport is compiled, unary calls and the others are counted apart.
"""

_CLOSED: Final = "this GrpcClient is closed"
CUT_OFF: Final = "the client was closed while the call was in flight"


def checked(config: GrpcClientConfig | None) -> GrpcClientConfig:
    """Return the config of a client; None: the default one.

    Raises:
        ConfigError: it is something else.
    """
    if config is None:
        return GrpcClientConfig()
    check_type("config", config, GrpcClientConfig)
    return config


class ResilientChannel(StubChannel):
    """What a generated stub asks of a `grpc.aio.Channel`, and `close`.

    It has no connectivity of its own (`channel_ready`, `get_state`): each endpoint has its own connection.
    """

    def __init__(self, config: GrpcClientConfig) -> None:
        self._caller: Caller | None = None
        """Makes the unary calls where the transport is compiled; None: they are tasks like the others."""
        if chosen(config.transport) == "native":
            from tai_grpc.client import native  # noqa: PLC0415 - not every build has it

            self.endpoints = Endpoints(config, native.NativeTransport)
            self.layers = Layers(config, self.endpoints)
            self._caller = native.make_caller(self.layers, self.endpoints, MAX_IN_FLIGHT)
            self._unary_method: type[Any] = native.ResilientMethod
        else:
            from tai_grpc.transport.grpcio import GrpcioTransport  # noqa: PLC0415 - loaded if it is used

            self.endpoints = Endpoints(config, GrpcioTransport)
            self.layers = Layers(config, self.endpoints)
        self._in_flight: set[asyncio.Task[Reply]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._cut_off = False

    def open(self) -> None:
        """Bind the channel to the running event loop; calls can be made from now on.

        Raises:
            TaiGrpcError: it was opened before.
        """
        if self._loop is not None:
            raise TaiGrpcError("this GrpcClient was opened before: make a new one for each `async with`")
        self._loop = asyncio.get_running_loop()
        if self._caller is not None:
            self._caller.open(self._loop)

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, give those in flight `grace` seconds to end (None: none), then end the others
        with CANCELLED, and disconnect.
        """
        self._closed = True
        if self._caller is not None:
            self._caller.stop(_CLOSED)
        if grace:
            await self._wait_idle(grace)
        self._cut_off = True
        if self._caller is not None:
            self._caller.cut_off(CUT_OFF)
        rest = list(self._in_flight)
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest)
        await self.endpoints.close()

    async def _wait_idle(self, timeout: float) -> None:
        """Wait until no call is in flight, for at most `timeout` seconds."""
        waits: set[asyncio.Task[Any]] = set(self._in_flight)
        idle = None
        if self._caller is not None:
            idle = asyncio.create_task(self._caller.wait_idle())
            waits.add(idle)
        if waits:
            await asyncio.wait(waits, timeout=timeout)
        if idle is not None:
            idle.cancel()

    def start(self, call: AnyInvocation) -> asyncio.Task[Reply]:
        """Send a call on its way.

        Raises:
            TaiGrpcError: the client is not open, or another event loop's.
        """
        if self._closed:
            raise TaiGrpcError(_CLOSED)
        if self._loop is None:
            raise TaiGrpcError(
                "this GrpcClient is not open: make calls inside `async with GrpcClient(...) as client:`"
            )
        if self._loop is not asyncio.get_running_loop():
            raise TaiGrpcError("this GrpcClient belongs to another event loop: make one in each")
        refusal = too_many() if len(self._in_flight) >= MAX_IN_FLIGHT else None
        task = self._loop.create_task(self._run(call, refusal))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)
        return task

    def stats(self) -> ClientStats:
        """Return what has been counted since the channel was made."""
        return client_stats(self.layers, self.endpoints)

    async def _run(self, call: AnyInvocation, refusal: Reply | None) -> Reply:
        try:
            return await run(call, self.layers, self.endpoints, ended=refusal)
        except asyncio.CancelledError:
            # `close` cancels each task once; whoever else cancels it wants to see that.
            task = asyncio.current_task()
            if self._cut_off and task is not None and task.cancelling() == 1:
                return Reply(StatusCode.CANCELLED, CUT_OFF)
            raise

    def method(
        self, kind: Kind, name: str, serialize: Serializer | None, deserialize: Deserializer | None
    ) -> Any:
        if kind == "unary_unary" and self._caller is not None:
            return self._unary_method(self._caller, name, serialize, deserialize)
        return _KINDS[kind](self, name, serialize, deserialize)


def client_stats(layers: Layers, endpoints: AnyEndpoints) -> ClientStats:
    """Return what a client's layers have counted."""
    latency = layers.latency
    return ClientStats(
        calls=layers.calls,
        failed=layers.failed,
        cancelled=layers.cancelled,
        attempts=layers.attempts,
        retries=layers.retries,
        p50_us=latency.percentile(50.0),
        p99_us=latency.percentile(99.0),
        p999_us=latency.percentile(99.9),
        endpoints=tuple(endpoints.stats()),
    )


def too_many() -> Reply:
    """Return what a call beyond MAX_IN_FLIGHT ends with."""
    return Reply(
        StatusCode.RESOURCE_EXHAUSTED, f"this client has {MAX_IN_FLIGHT} calls in flight", sent=False
    )


class _MultiCallable(Generic[Req, Res]):
    """One method of a service; calling it makes a call.

    `timeout` is in seconds. `wait_for_ready` waits for the endpoint that was picked; a breaker still refuses.
    """

    def __init__(
        self,
        channel: ResilientChannel,
        method: str,
        serialize: Callable[[Req], bytes] | None,
        deserialize: Callable[[bytes], Res] | None,
    ) -> None:
        self._channel = channel
        self._method = method
        self._serialize: Callable[[Any], bytes] = serialize or as_is
        self._deserialize: Callable[[bytes], Any] = deserialize or as_is

    def _start_streaming(
        self, requests: Requests[Req] | None, options: CallOptions, *, long_lived: bool
    ) -> tuple[StreamInvocation, asyncio.Task[Reply]]:
        feed = None if requests is None else as_async(requests, self._serialize)
        call = StreamInvocation(self._method, options, requests=feed, long_lived=long_lived)
        return call, self._channel.start(call)


class UnaryUnaryMultiCallable(_MultiCallable[Req, Res], aio.UnaryUnaryMultiCallable[Req, Res]):
    def __call__(
        self,
        request: Req,
        *,
        timeout: float | None = None,
        metadata: MetadataArgument | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> UnaryUnaryCall[Req, Res]:
        options = CallOptions(timeout, metadata, credentials, wait_for_ready, compression)
        call = UnaryInvocation(self._method, options, self._serialize(request))
        return UnaryUnaryCall(call, self._channel.start(call), self._deserialize)


class UnaryStreamMultiCallable(_MultiCallable[Req, Res], aio.UnaryStreamMultiCallable[Req, Res]):
    def __call__(
        self,
        request: Req,
        *,
        timeout: float | None = None,
        metadata: MetadataArgument | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> UnaryStreamCall[Req, Res]:
        options = CallOptions(timeout, metadata, credentials, wait_for_ready, compression)
        call = StreamInvocation(self._method, options, request=self._serialize(request), long_lived=True)
        return UnaryStreamCall(call, self._channel.start(call), self._deserialize)


class StreamUnaryMultiCallable(_MultiCallable[Req, Res], aio.StreamUnaryMultiCallable[Req, Res]):
    def __call__(  # noqa: PLR0917 - grpc.aio's own signature
        self,
        request_iterator: Requests[Req] | None = None,
        timeout: float | None = None,
        metadata: MetadataArgument | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> StreamUnaryCall[Req, Res]:
        options = CallOptions(timeout, metadata, credentials, wait_for_ready, compression)
        call, task = self._start_streaming(request_iterator, options, long_lived=False)
        return StreamUnaryCall(call, task, self._deserialize, self._serialize)


class StreamStreamMultiCallable(_MultiCallable[Req, Res], aio.StreamStreamMultiCallable[Req, Res]):
    def __call__(  # noqa: PLR0917 - grpc.aio's own signature
        self,
        request_iterator: Requests[Req] | None = None,
        timeout: float | None = None,
        metadata: MetadataArgument | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> StreamStreamCall[Req, Res]:
        options = CallOptions(timeout, metadata, credentials, wait_for_ready, compression)
        call, task = self._start_streaming(request_iterator, options, long_lived=True)
        return StreamStreamCall(call, task, self._deserialize, self._serialize)


_KINDS: Final[dict[Kind, type[_MultiCallable[Any, Any]]]] = {
    "unary_unary": UnaryUnaryMultiCallable,
    "unary_stream": UnaryStreamMultiCallable,
    "stream_unary": StreamUnaryMultiCallable,
    "stream_stream": StreamStreamMultiCallable,
}
