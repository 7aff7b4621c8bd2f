"""Client interceptors of the four kinds, as in grpc.aio: coroutines around the making of a call.

The chain runs in a task of its own and ends with a call, or with a response in place of one. What the caller
holds meanwhile stands for that call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Sequence
from typing import Any, Final

import grpc
from grpc import StatusCode, aio

from tai_grpc._ext.aio.client_session import LOCALLY_CANCELLED

_MIXED: Final = "The iterator and read/write APIs may not be mixed on a single RPC."
_FINISHED: Final = "RPC already finished."
_HALF_CLOSED: Final = 'RPC is half closed after calling "done_writing".'

Terminal = Callable[[aio.ClientCallDetails, Any], Any]
"""Makes the call itself."""

KINDS: Final = {
    aio.UnaryUnaryClientInterceptor: "unary_unary",
    aio.UnaryStreamClientInterceptor: "unary_stream",
    aio.StreamUnaryClientInterceptor: "stream_unary",
    aio.StreamStreamClientInterceptor: "stream_stream",
}


def sorted_by_kind(interceptors: Sequence[Any] | None) -> dict[str, list[Any]]:
    """Return the interceptors of each kind, in their order.

    Raises:
        ValueError: one of them is not a grpc.aio.ClientInterceptor.
    """
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS.values()}
    for interceptor in interceptors or ():
        for base, kind in KINDS.items():
            if isinstance(interceptor, base):
                found[kind].append(interceptor)
                break
        else:
            names = " or ".join(base.__name__ for base in KINDS)
            raise ValueError(f"Interceptor {interceptor!r} must be {names}")
    return found


async def _run(
    kind: str, interceptors: Sequence[Any], terminal: Terminal, details: aio.ClientCallDetails, request: Any
) -> Any:
    """Run the chain; the result is a call."""
    if not interceptors:
        return terminal(details, request)
    last: Any = None

    async def proceed(its_details: aio.ClientCallDetails, its_request: Any) -> Any:
        nonlocal last
        last = await _run(kind, interceptors[1:], terminal, its_details, its_request)
        return last

    result = await getattr(interceptors[0], f"intercept_{kind}")(proceed, details, request)
    if kind == "unary_unary" and not isinstance(result, aio.UnaryUnaryCall):
        return _Response(result)
    if kind in ("unary_stream", "stream_stream") and not isinstance(result, aio.Call):
        return _Responses(last, result)
    return result


class _Response(aio.UnaryUnaryCall[Any, Any]):
    """What stands for a call whose response an interceptor made."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)

    def time_remaining(self) -> float | None:
        return None

    async def initial_metadata(self) -> Any:
        return None  # as in grpc.aio: there was no server to send any

    async def trailing_metadata(self) -> Any:
        return None

    async def code(self) -> StatusCode:
        return StatusCode.OK

    async def details(self) -> str:
        return ""

    async def debug_error_string(self) -> str:
        return ""

    async def wait_for_connection(self) -> None:
        return

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return self._response


class _Responses(_Response, aio.UnaryStreamCall[Any, Any], aio.StreamStreamCall[Any, Any]):
    """A call whose responses come out of an interceptor's iterator; otherwise it is the call beneath."""

    def __init__(self, call: Any, responses: AsyncIterable[Any]) -> None:
        super().__init__(None)
        self._call: Any = _Response(None) if call is None else call
        self._responses = responses.__aiter__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._responses

    async def read(self) -> Any:
        try:
            return await self._responses.__anext__()
        except StopAsyncIteration:
            return aio.EOF

    def cancel(self) -> bool:
        return bool(self._call.cancel())

    def cancelled(self) -> bool:
        return bool(self._call.cancelled())

    def done(self) -> bool:
        return bool(self._call.done())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._call.add_done_callback(lambda _: callback(self))

    def time_remaining(self) -> float | None:
        remaining: float | None = self._call.time_remaining()
        return remaining

    async def initial_metadata(self) -> Any:
        return await self._call.initial_metadata()

    async def trailing_metadata(self) -> Any:
        return await self._call.trailing_metadata()

    async def code(self) -> Any:
        return await self._call.code()

    async def details(self) -> str:
        return str(await self._call.details())

    async def debug_error_string(self) -> str:
        return str(await self._call.debug_error_string())

    async def wait_for_connection(self) -> None:
        await self._call.wait_for_connection()

    async def write(self, request: Any) -> None:
        await self._call.write(request)

    async def done_writing(self) -> None:
        await self._call.done_writing()


class InterceptedCall:
    """What the caller holds: the chain's task, then the call that it ends with."""

    def __init__(self, task: asyncio.Task[Any], timeout: float | None) -> None:
        self._task = task
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._callbacks: list[Callable[[Any], None]] = []
        task.add_done_callback(self._chain_ended)

    def _chain_ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # whoever awaits the call hears of it
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self.add_done_callback(callback)

    def _call(self) -> Any:
        """Return the call once there is one."""
        if self._task.done() and not self._task.cancelled() and self._task.exception() is None:
            return self._task.result()
        return None

    async def _wait(self) -> Any:
        """Wait for the chain's end without binding it to who waits; return the call if there is one."""
        if not self._task.done():
            await asyncio.wait((self._task,))
        return self._call()

    def cancel(self) -> bool:
        if not self._task.done():
            return self._task.cancel()
        call = self._call()
        return call is not None and bool(call.cancel())

    def cancelled(self) -> bool:
        if (call := self._call()) is not None:
            return bool(call.cancelled())
        if not self._task.done():
            return False
        return self._task.cancelled() or self._failed_code() is StatusCode.CANCELLED

    def done(self) -> bool:
        if (call := self._call()) is not None:
            return bool(call.done())
        return self._task.done()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if not self._task.done():
            self._callbacks.append(callback)
        elif (call := self._call()) is not None:
            call.add_done_callback(lambda _: callback(self))
        else:
            callback(self)

    def time_remaining(self) -> float | None:
        if (call := self._call()) is not None:
            remaining: float | None = call.time_remaining()
            return remaining
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _error(self) -> Any:
        """Return the RpcError that the chain ended with, None when it was cancelled."""
        if self._task.cancelled():
            return None
        error = self._task.exception()
        if not isinstance(error, aio.AioRpcError):
            assert error is not None  # noqa: S101 - there is neither a call nor a cancellation
            raise error
        return error

    def _failed_code(self) -> StatusCode | None:
        error = self._task.exception()
        return error.code() if isinstance(error, aio.AioRpcError) else None

    async def initial_metadata(self) -> Any:
        if (call := await self._wait()) is not None:
            return await call.initial_metadata()
        error = self._error()
        return aio.Metadata() if error is None else error.initial_metadata()

    async def trailing_metadata(self) -> Any:
        if (call := await self._wait()) is not None:
            return await call.trailing_metadata()
        error = self._error()
        return aio.Metadata() if error is None else error.trailing_metadata()

    async def code(self) -> Any:
        if (call := await self._wait()) is not None:
            return await call.code()
        error = self._error()
        return StatusCode.CANCELLED if error is None else error.code()

    async def details(self) -> str:
        if (call := await self._wait()) is not None:
            return str(await call.details())
        error = self._error()
        return LOCALLY_CANCELLED if error is None else str(error.details())

    async def debug_error_string(self) -> str | None:
        if (call := await self._wait()) is not None:
            text: str | None = await call.debug_error_string()
            return text
        error = self._error()
        return None if error is None else error.debug_error_string()

    async def wait_for_connection(self) -> None:
        await (await self._task).wait_for_connection()


class _UnaryResponse(InterceptedCall):
    def __await__(self) -> Generator[Any, None, Any]:
        call = yield from self._task.__await__()
        response = yield from call.__await__()
        return response


class _StreamResponse(InterceptedCall):
    _responses: AsyncIterator[Any] | None = None

    async def _read_all(self) -> AsyncIterator[Any]:
        async for response in await self._task:
            yield response

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._responses is None:
            self._responses = self._read_all()
        return self._responses

    async def read(self) -> Any:
        try:
            return await self.__aiter__().__anext__()
        except StopAsyncIteration:
            return aio.EOF


_END: Final = object()


class _Requests:
    """What `write` hands to the iterator that the chain reads requests from, one at a time."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (request := await self._queue.get()) is not _END:
            yield request

    async def put(self, request: Any, call: Any) -> bool:
        """Hand over, or give up when the call ends first; False when it has ended."""
        putting = asyncio.ensure_future(self._queue.put(request))
        ending = asyncio.ensure_future(call.code())  # there before it is done, if answers are unread
        try:
            await asyncio.wait((putting, ending), return_when=asyncio.FIRST_COMPLETED)
            return not ending.done()
        finally:
            putting.cancel()
            ending.cancel()


class _StreamRequest(InterceptedCall):
    _requests: _Requests | None = None
    _half_closed = False

    async def write(self, request: Any) -> None:
        if self._requests is None:
            raise aio.UsageError(_MIXED)
        await self._put(request)

    async def done_writing(self) -> None:
        if self._requests is None:
            raise aio.UsageError(_MIXED)
        if not self._half_closed and not self.done():
            await self._put(_END)
            self._half_closed = True

    async def _put(self, request: Any) -> None:
        assert self._requests is not None  # noqa: S101 - both callers have looked
        call = await self._wait()
        if call is None or call.done():
            raise asyncio.InvalidStateError(_FINISHED)
        if self._half_closed:
            raise asyncio.InvalidStateError(_HALF_CLOSED)
        if not await self._requests.put(request, call) and request is not _END:
            raise asyncio.InvalidStateError(_FINISHED)


class InterceptedUnaryUnaryCall(_UnaryResponse, aio.UnaryUnaryCall[Any, Any]):
    """One request, one response, behind interceptors."""


class InterceptedUnaryStreamCall(_StreamResponse, aio.UnaryStreamCall[Any, Any]):
    """One request, a stream of responses, behind interceptors."""


class InterceptedStreamUnaryCall(_StreamRequest, _UnaryResponse, aio.StreamUnaryCall[Any, Any]):
    """A stream of requests, one response, behind interceptors."""


class InterceptedStreamStreamCall(_StreamRequest, _StreamResponse, aio.StreamStreamCall[Any, Any]):
    """A stream of requests, a stream of responses, behind interceptors."""


aio.InterceptedUnaryUnaryCall.register(InterceptedUnaryUnaryCall)


class _Intercepted:
    """A method of a channel whose calls go through interceptors."""

    kind: str
    call: type[Any]

    def __init__(
        self, method: bytes, interceptors: Sequence[Any], make: Callable[[bytes], Callable[..., Any]]
    ) -> None:
        self._method = method
        self._interceptors = interceptors
        self._make = make
        self._plain = make(method)

    def _start(  # noqa: PLR0917 - handed on in grpc.aio's order
        self,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Any:
        def terminal(details: aio.ClientCallDetails, its_request: Any) -> Any:
            chosen: Any = details.method
            chosen = chosen.encode() if isinstance(chosen, str) else chosen
            plain = self._plain if chosen == self._method else self._make(chosen)
            return plain(
                its_request,
                timeout=details.timeout,
                metadata=details.metadata,
                credentials=details.credentials,
                wait_for_ready=details.wait_for_ready,
                compression=compression,
            )

        method: Any = self._method  # bytes, as grpc.aio has it and its stubs do not
        pairs = metadata if isinstance(metadata, aio.Metadata) else aio.Metadata(*(metadata or ()))
        details = aio.ClientCallDetails(method, timeout, pairs, credentials, wait_for_ready)
        requests = None
        if self.kind.startswith("stream") and request is None:
            request = requests = _Requests()
        chain = _run(self.kind, self._interceptors, terminal, details, request)
        call = self.call(asyncio.get_running_loop().create_task(chain), timeout)
        if requests is not None:
            call._requests = requests
        return call


class _OfUnaryRequest(_Intercepted):
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        return self._start(request, timeout, metadata, credentials, wait_for_ready, compression)


class _OfStreamRequest(_Intercepted):
    def __call__(  # noqa: PLR0917 - grpc.aio's own signature
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        return self._start(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)


class _UnaryUnary(_OfUnaryRequest, aio.UnaryUnaryMultiCallable[Any, Any]):
    kind = "unary_unary"
    call = InterceptedUnaryUnaryCall


class _UnaryStream(_OfUnaryRequest, aio.UnaryStreamMultiCallable[Any, Any]):
    kind = "unary_stream"
    call = InterceptedUnaryStreamCall


class _StreamUnary(_OfStreamRequest, aio.StreamUnaryMultiCallable[Any, Any]):
    kind = "stream_unary"
    call = InterceptedStreamUnaryCall


class _StreamStream(_OfStreamRequest, aio.StreamStreamMultiCallable[Any, Any]):
    kind = "stream_stream"
    call = InterceptedStreamStreamCall


INTERCEPTED: Final[dict[str, type[_Intercepted]]] = {
    each.kind: each for each in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)
}
