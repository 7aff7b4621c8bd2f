"""Plain functions as handlers: they run in worker threads, and what must be awaited is awaited for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import grpc

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]


async def in_thread(behaviour: Callable[[Any, Any], T], request: object, context: Context) -> T:
    """Call a plain handler in a worker thread, with a context and a request stream that it can use there."""
    return await asyncio.to_thread(behaviour, *_for_thread(request, context))


async def iterate_in_thread(
    behaviour: Callable[[Any, Any], Iterator[T]], request: object, context: Context
) -> AsyncGenerator[T]:
    """Step a plain generator in worker threads, so that one that blocks does not block the loop."""
    end = object()
    iterator = iter(await asyncio.to_thread(behaviour, *_for_thread(request, context)))
    while (response := await asyncio.to_thread(next, iterator, end)) is not end:
        yield response  # type: ignore[misc]  # mypy does not tell the end from a response


def _for_thread(request: object, context: Context) -> tuple[object, _ThreadContext]:
    loop = asyncio.get_running_loop()
    if isinstance(request, AsyncIterable):
        return _requests(request, loop), _ThreadContext(context, loop)
    return request, _ThreadContext(context, loop)


def _wait(awaitable: Awaitable[T], loop: asyncio.AbstractEventLoop) -> T:
    async def awaited() -> T:
        return await awaitable

    return asyncio.run_coroutine_threadsafe(awaited(), loop).result()


def _requests(requests: AsyncIterable[T], loop: asyncio.AbstractEventLoop) -> Iterator[T]:
    iterator = aiter(requests)
    while True:
        try:
            yield _wait(anext(iterator), loop)
        except StopAsyncIteration:
            return


class _ThreadContext:
    """The servicer context for a worker thread: the same names, and nothing to await."""

    def __init__(self, context: Context, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop

    def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        """End the call with this status; always raises."""
        _wait(self._context.abort(code, details, trailing_metadata), self._loop)

    def abort_with_status(self, status: Any) -> None:
        """End the call with this status; always raises."""
        self.abort(status.code, status.details, status.trailing_metadata or ())

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        _wait(self._context.send_initial_metadata(initial_metadata), self._loop)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
