"""An event loop in a thread, and a channel that makes its calls there for threads that wait."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError
from typing import Any, Final, Generic, TypeVar

from grpc import StatusCode, aio

from tai_grpc.client.grpc_client import GrpcClient
from tai_grpc.client.methods import (
    BlockingMethod,
    Deserializer,
    FinishedCall,
    Kind,
    OneResponseMethod,
    Serializer,
    StubChannel,
)
from tai_grpc.config import GrpcClientConfig
from tai_grpc.errors import TaiGrpcError
from tai_grpc.status import CallError
from tai_grpc.transport.base import CallOptions, Reply

T = TypeVar("T")
Res = TypeVar("Res")

_END: Final = object()


class LoopThread:
    """An event loop that runs in a daemon thread until it is stopped."""

    def __init__(self) -> None:
        self._submitting = threading.Lock()
        self._started = threading.Event()
        self.stopped = False
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main()), name="tai-grpc-client", daemon=True
        )
        self._thread.start()
        self._started.wait()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._started.set()
        await self._end.wait()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, in the caller's context, and wait for what it returns or raises.

        Raises:
            TaiGrpcError: the loop was stopped, or this is its own thread, which would wait for itself.
            concurrent.futures.CancelledError: the coroutine was cancelled.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise TaiGrpcError(
                "a callback of this BlockingGrpcClient cannot wait for a call of the same client"
            )
        with self._submitting:
            if self.stopped:
                work.close()
                raise TaiGrpcError("this BlockingGrpcClient is closed")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()  # ends the coroutine when the wait was interrupted, by a signal for instance

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, soon; do nothing when the loop was stopped."""
        with self._submitting:
            if not self.stopped:
                self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        """Cancel what still runs, and end the thread."""
        with self._submitting:
            self.stopped = True
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


class LoopEngine:
    """A `GrpcClient` on a loop of its own, for a transport that needs one."""

    def __init__(self, config: GrpcClientConfig) -> None:
        self._client = GrpcClient(config)
        self.loop = LoopThread()
        self.loop.run(self._client.__aenter__())
        self._closing = threading.Lock()
        self.breaker = self._client.breaker
        self.endpoint_stats = self._client.endpoint_stats
        self.stats = self._client.stats

    @property
    def channel(self) -> BlockingChannel:
        """What stubs are made on."""
        return BlockingChannel(self._client.stub(lambda channel: channel), self.loop)

    def close(self, grace: float | None = None) -> None:
        """As `GrpcClient.close`, and end the thread. Closing again does no harm."""
        with self._closing:
            if not self.loop.stopped:
                self.loop.run(self._client.close(grace))
                self.loop.stop()


class BlockingChannel(StubChannel):
    """What a generated stub asks of a `grpc.Channel`."""

    def __init__(self, channel: aio.Channel, loop: LoopThread) -> None:
        self._channel = channel
        self._loop = loop

    def method(
        self, kind: Kind, name: str, serialize: Serializer | None, deserialize: Deserializer | None
    ) -> _Method:
        start = getattr(self._channel, kind)(name, serialize, deserialize)
        made = _OneResponse if kind.endswith("_unary") else _StreamOfResponses
        return made(self._loop, name, start, one_request=kind.startswith("unary_"))


class _Method(BlockingMethod):
    """What the four kinds have."""

    def __init__(
        self, loop: LoopThread, method: str, start: Callable[..., Any], *, one_request: bool
    ) -> None:
        self._loop = loop
        self._method = method
        self._start = start
        self._one_request = one_request

    def _run(self, request: Any, options: CallOptions, then: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """Start a call in the loop, and wait for what `then` makes of it there."""

        async def run() -> T:
            call = self._start(request if self._one_request else _from_thread(request), **options._asdict())
            return await then(call)

        try:
            return self._loop.run(run())
        except CancelledError:
            raise _cancelled(self._method) from None


class _OneResponse(_Method, OneResponseMethod):
    def _ended(self, request: Any, options: CallOptions) -> tuple[Any, FinishedCall]:
        async def ended(call: Any) -> tuple[Any, FinishedCall]:
            message = await call
            reply = Reply(
                await call.code(),
                await call.details(),
                tuple(await call.initial_metadata()),
                tuple(await call.trailing_metadata()),
            )
            return message, FinishedCall(reply)

        return self._run(request, options, ended)


class _StreamOfResponses(_Method):
    def _called(self, request: Any, options: CallOptions) -> ResponseStream[Any]:
        async def started(call: Any) -> Any:
            return call

        return ResponseStream(self._loop, self._method, self._run(request, options, started))


class ResponseStream(Generic[Res]):
    """An iterator over a call's responses. Dropping it ends the call."""

    def __init__(self, loop: LoopThread, method: str, call: aio.UnaryStreamCall[Any, Res]) -> None:
        self._loop = loop
        self._method = method
        self._call = call

    def __iter__(self) -> Iterator[Res]:
        return self

    def __next__(self) -> Res:
        try:
            message: Any = self._loop.run(self._call.read())
        except CancelledError:
            raise _cancelled(self._method) from None
        if message is aio.EOF:
            raise StopIteration
        return message  # type: ignore[no-any-return]  # what is not EOF is a response

    def cancel(self) -> None:
        """Give the call up; whoever waits for its next response gets a CallError."""
        self._loop.call(self._call.cancel)

    def code(self) -> StatusCode:
        """Wait for the end and return its status code."""
        return self._loop.run(self._call.code())

    def details(self) -> str:
        return self._loop.run(self._call.details())

    def initial_metadata(self) -> aio.Metadata:
        """Wait for the response's headers."""
        return self._loop.run(self._call.initial_metadata())

    def trailing_metadata(self) -> aio.Metadata:
        return self._loop.run(self._call.trailing_metadata())


def _cancelled(method: str) -> CallError:
    return CallError(
        StatusCode.CANCELLED,
        "cancelled by the caller",
        method=method.removeprefix("/"),
        endpoint="",
        attempts=0,
    )


async def _from_thread(requests: Iterable[T]) -> AsyncIterator[T]:
    """Yield what an iterable yields, which may block: a daemon thread reads it, only when one is wanted."""
    loop = asyncio.get_running_loop()
    wanted: queue.SimpleQueue[asyncio.Future[Any] | None] = queue.SimpleQueue()

    def settle(future: asyncio.Future[Any], item: object, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(item)

    iterator = iter(requests)

    def read() -> None:
        while (future := wanted.get()) is not None:
            item, error = _END, None
            try:
                item = next(iterator, _END)
            except BaseException as raised:
                error = raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, future, item, error)

    threading.Thread(target=read, name="tai-grpc-requests", daemon=True).start()
    try:
        while True:
            future = loop.create_future()
            wanted.put(future)
            item = await future
            if item is _END:
                return
            yield item
    finally:
        wanted.put(None)
