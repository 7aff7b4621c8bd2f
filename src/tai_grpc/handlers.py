"""Handlers as coroutine functions and async generator functions, however they were written.

A plain function runs in a worker thread, and what must be awaited is awaited for it. One whose call is over
is not stopped, since a thread cannot be: it ends when it next reads, writes or returns.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, NamedTuple, TypeAlias

import grpc

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Any], Any]
"""A function of the request, or the iterator of requests, and the context."""

_Coroutine = Callable[[Any, Context], Coroutine[Any, Any, Any]]


class Adapted(NamedTuple):
    """`behaviour` is a coroutine function or, where it `generates`, an async generator function."""

    behaviour: Behaviour
    generates: bool


def kind_of(handler: Handler) -> str:
    """Return "unary_unary" or whichever of the four kinds it is."""
    kinds = {False: "unary", True: "stream"}
    return f"{kinds[bool(handler.request_streaming)]}_{kinds[bool(handler.response_streaming)]}"


def adapted(path: str, handler: Handler, pool: Executor | None) -> Adapted:
    """Return what the handler of a method does. Plain functions run in `pool`, None for the loop's own.

    Raises:
        TypeError: it has no function of its kind.
    """
    kind = kind_of(handler)
    behaviour = getattr(handler, kind)
    if not callable(behaviour):
        raise TypeError(f"{path}: its handler has no {kind} function")
    if _is(inspect.isasyncgenfunction, behaviour):
        return Adapted(behaviour, True) if handler.response_streaming else Adapted(_misplaced, False)
    if _is(inspect.iscoroutinefunction, behaviour):
        return Adapted(behaviour, False)
    adapt = _stream_in_thread if handler.response_streaming else _unary_in_thread
    return Adapted(adapt(behaviour, pool, bool(handler.request_streaming)), False)


def _is(kind: Callable[[Any], bool], behaviour: Any) -> bool:
    """Whether a function is of a kind, or an object that is called like one."""
    return kind(behaviour) or kind(getattr(behaviour, "__call__", None))  # noqa: B004 - what is called


async def _misplaced(request: object, context: object) -> None:
    raise TypeError("an async generator cannot be a handler that returns one response: it takes a coroutine")


def _unary_in_thread(behaviour: Behaviour, pool: Executor | None, request_streams: bool) -> _Coroutine:
    async def run(request: Any, context: Context) -> Any:
        result = await _in_thread(behaviour, pool, request, context, request_streams)
        return await result if inspect.isawaitable(result) else result

    return run


def _stream_in_thread(behaviour: Behaviour, pool: Executor | None, request_streams: bool) -> _Coroutine:
    def respond(request: Any, context: _ThreadContext) -> Any:
        responses = behaviour(request, context)
        if isinstance(responses, AsyncIterable) or inspect.isawaitable(responses):
            return responses
        try:
            for response in responses:
                context.write(response)
        finally:
            # Here, in its thread, and not when the last error that it is in the traceback of is gone.
            if hasattr(responses, "close"):
                responses.close()
        return None

    async def run(request: Any, context: Context) -> None:
        left = await _in_thread(respond, pool, request, context, request_streams)
        if isinstance(left, AsyncIterable):
            async for response in left:
                await context.write(response)
        elif left is not None:
            await left

    return run


async def _in_thread(
    function: Behaviour, pool: Executor | None, request: Any, context: Context, request_streams: bool
) -> Any:
    loop = asyncio.get_running_loop()
    side = _LoopSide(loop)
    if request_streams:
        request = _Requests(request, side)
    run = contextvars.copy_context().run
    try:
        return await loop.run_in_executor(pool, run, function, request, _ThreadContext(context, side))
    finally:
        side.end()


class _LoopSide:
    """What a handler in a thread has of the event loop, until it returns or its call is over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ended = False
        self._lock = threading.Lock()
        self._waits: set[Future[Any]] = set()
        """More than one where the handler has threads of its own."""

    def wait(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Return what an awaitable of the loop gives.

        Raises:
            concurrent.futures.CancelledError: the call is over.
        """

        async def awaited() -> Any:
            return await function(*arguments)

        with self._lock:
            if self.ended:
                raise CancelledError("the call is over")
            future = asyncio.run_coroutine_threadsafe(awaited(), self.loop)
            self._waits.add(future)
        try:
            return future.result()
        finally:
            with self._lock:
                self._waits.discard(future)

    def end(self) -> None:
        """Let nothing wait any more: the loop perhaps will not run again."""
        with self._lock:
            self.ended = True
            waits = list(self._waits)
        for future in waits:
            future.cancel()


class _Requests:
    """The requests of a call, for a worker thread to iterate."""

    def __init__(self, requests: AsyncIterable[Any], side: _LoopSide) -> None:
        self._requests = aiter(requests)
        self._side = side

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._side.wait(anext, self._requests)
        except StopAsyncIteration:
            raise StopIteration from None


class _ThreadContext:
    """The context of a handler in a worker thread: grpc.ServicerContext's names, and nothing to await."""

    def __init__(self, context: Context, side: _LoopSide) -> None:
        self._context = context
        self._side = side
        self.invocation_metadata = context.invocation_metadata
        self.peer = context.peer
        self.peer_identities = context.peer_identities
        self.peer_identity_key = context.peer_identity_key
        self.auth_context = context.auth_context
        self.time_remaining = context.time_remaining
        self.set_code = context.set_code
        self.set_details = context.set_details
        self.set_trailing_metadata = context.set_trailing_metadata
        self.code = context.code
        self.details = context.details
        self.trailing_metadata = context.trailing_metadata
        self.set_compression = context.set_compression
        self.disable_next_message_compression = context.disable_next_message_compression

    def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> None:
        """End the call with this status; always raises."""
        self._side.wait(self._context.abort, code, details, trailing_metadata)

    def abort_with_status(self, status: Any) -> None:
        """End the call with this status; always raises."""
        self._side.wait(self._context.abort_with_status, status)

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._side.wait(self._context.send_initial_metadata, initial_metadata)

    def write(self, response: Any) -> None:
        """Send one of a stream of responses, which grpc.ServicerContext leaves to the generator."""
        self._side.wait(self._context.write, response)

    def is_active(self) -> bool:
        """Whether an answer would still be of use."""
        return not self._side.ended and not self._context.done()

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Call `callback`, in the loop's thread, when the handler has ended; False if it has."""
        if not self.is_active():
            return False
        done: Any = self._context.add_done_callback  # its stub takes only a class of the stub's own
        self._side.loop.call_soon_threadsafe(done, lambda _: callback())
        return True
