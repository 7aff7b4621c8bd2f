"""Plain functions as handlers: each runs in a worker thread, and what must be awaited is awaited for it.

A handler whose call is over is not stopped, since a thread cannot be: it ends when it next reads, writes or
returns.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Executor
from typing import Any

from tai_grpc._ext.aio.context import ServicerContext

Plain = Callable[[Any, Any], Any]
Adapted = Callable[[Any, ServicerContext], Coroutine[Any, Any, Any]]


def unary_in_thread(behaviour: Plain, pool: Executor | None, request_streams: bool) -> Adapted:
    """Make a coroutine function of a plain function that returns one response."""

    async def run(request: Any, context: ServicerContext) -> Any:
        loop = asyncio.get_running_loop()
        request = ThreadRequests(context, loop) if request_streams else request
        result = await _in_thread(loop, pool, behaviour, request, ThreadContext(context, loop))
        return await result if inspect.isawaitable(result) else result

    return run


def stream_in_thread(behaviour: Plain, pool: Executor | None, request_streams: bool) -> Adapted:
    """Make a coroutine function of a plain function that returns an iterable of responses."""

    async def run(request: Any, context: ServicerContext) -> None:
        loop = asyncio.get_running_loop()
        for_thread = ThreadRequests(context, loop) if request_streams else request

        def step() -> Any:
            responses = behaviour(for_thread, ThreadContext(context, loop))
            if hasattr(responses, "__aiter__") or inspect.isawaitable(responses):
                return responses
            try:
                for response in responses:
                    _wait(context.write(response), loop)
            finally:
                # Here, in its thread, and not when the last error that it is in the traceback of is gone.
                if hasattr(responses, "close"):
                    responses.close()
            return None

        left = await _in_thread(loop, pool, step)
        if hasattr(left, "__aiter__"):
            async for response in left:
                await context.write(response)
        elif left is not None:
            await left

    return run


def _in_thread(
    loop: asyncio.AbstractEventLoop, pool: Executor | None, function: Callable[..., Any], *arguments: Any
) -> Awaitable[Any]:
    return loop.run_in_executor(pool, contextvars.copy_context().run, function, *arguments)


def _wait(awaitable: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Any:
    return asyncio.run_coroutine_threadsafe(awaitable, loop).result()


class ThreadRequests:
    """The requests of a call, for a worker thread to iterate."""

    def __init__(self, context: ServicerContext, loop: asyncio.AbstractEventLoop) -> None:
        self._requests = context.requests()
        self._loop = loop

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return _wait(anext(self._requests), self._loop)
        except StopAsyncIteration:
            raise StopIteration from None


class ThreadContext:
    """The context of a handler in a worker thread: grpc.ServicerContext's names, and nothing to await."""

    def __init__(self, context: ServicerContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
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
        _wait(self._context.abort(code, details, trailing_metadata), self._loop)

    def abort_with_status(self, status: Any) -> None:
        """End the call with this status; always raises."""
        _wait(self._context.abort_with_status(status), self._loop)

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        _wait(self._context.send_initial_metadata(initial_metadata), self._loop)

    def is_active(self) -> bool:
        """Whether an answer would still be of use."""
        return self._context.is_active()

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Call `callback`, in the loop's thread, when the handler has ended; False if it has."""
        if not self._context.is_active():
            return False
        self._loop.call_soon_threadsafe(self._context.add_done_callback, lambda _: callback())
        return True
