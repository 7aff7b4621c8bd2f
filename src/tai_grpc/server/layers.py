"""What every call passes on its way in, and the one place that states the order.

trace -> deadline -> handler. The order means: a call that runs out of time is still traced and logged; what
the handler calls on inherits both its trace and the time it has left.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc

from tai_grpc.config import GrpcServerConfig
from tai_grpc.observability.tracing import TraceContext, trace_scope
from tai_grpc.resilience.timeout import deadline_scope
from tai_grpc.server.threads import in_thread, iterate_in_thread
from tai_grpc.status import StatusCode

Context = grpc.aio.ServicerContext[Any, Any]

_log = logging.getLogger(__name__)
_SERVER_FAULTS: Final = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call on its way in. `method` is "pkg.Service/Method"; `streams` when its answer is a stream."""

    method: str
    context: Context
    streams: bool


Layer = Callable[[Call], AbstractAsyncContextManager[None]]


def server_layers(config: GrpcServerConfig) -> Sequence[Layer]:
    """Return the layers, the outermost first."""
    return (traced, deadline(config.max_timeout, config.max_stream_timeout))


@asynccontextmanager
async def traced(call: Call) -> AsyncIterator[None]:
    """Take up the caller's trace, or start one, and log how the call went, once.

    A handler's unforeseen exception is logged with its traceback and answered with UNKNOWN; its text stays
    here, since it may tell what a caller should not know.
    """
    parent = TraceContext.from_metadata(call.context.invocation_metadata() or ())
    trace = parent.child() if parent else TraceContext.new()
    begun = time.monotonic()

    def log(level: int, code: StatusCode, error: BaseException | None = None) -> None:
        if _log.isEnabledFor(level):
            fields = {
                "method": call.method,
                "code": code.name,
                "duration_ms": round((time.monotonic() - begun) * 1e3, 3),
                "peer": call.context.peer(),
            }
            _log.log(level, "%s answered %s", call.method, code.name, extra=fields, exc_info=error)

    with trace_scope(trace):
        try:
            yield
        except asyncio.CancelledError:
            log(logging.DEBUG, StatusCode.CANCELLED)
            raise
        except (grpc.aio.AbortError, grpc.aio.BaseError):
            code = _code(call.context)
            log(logging.WARNING if code in _SERVER_FAULTS else logging.DEBUG, code)
            raise
        except Exception as error:
            code = _code(call.context)
            if code is not StatusCode.OK:
                # As generated code does where a method is not implemented: it says so, then raises.
                log(logging.WARNING if code in _SERVER_FAULTS else logging.DEBUG, code)
                await call.context.abort(code, call.context.details() or str(error))
            log(logging.ERROR, StatusCode.UNKNOWN, error)
            await call.context.abort(
                StatusCode.UNKNOWN, f"the handler failed; the server's log has trace_id={trace.trace_id}"
            )
        else:
            log(logging.DEBUG, _code(call.context))


def _code(context: Context) -> StatusCode:
    code: object = context.code()
    for member in StatusCode:
        if code in (member, member.value[0]):
            return member
    return StatusCode.OK


def deadline(max_timeout: float, max_stream_timeout: float | None) -> Layer:
    """Cut each call's time to the server's maximum, and cancel its handler when that is over."""

    @asynccontextmanager
    async def layer(call: Call) -> AsyncIterator[None]:
        limit = max_stream_timeout if call.streams else max_timeout
        asked = call.context.time_remaining()
        timeout = min((seconds for seconds in (limit, asked) if seconds is not None), default=None)
        if timeout is None:
            yield
            return
        try:
            async with asyncio.timeout(timeout) as scope:
                with deadline_scope(time.monotonic() + timeout):
                    yield
        except TimeoutError:
            if not scope.expired():
                raise
            whose = "the server's maximum" if timeout == limit else "the caller's"
            await call.context.abort(
                StatusCode.DEADLINE_EXCEEDED, f"the deadline, {whose}, passed after {timeout:.3f} s"
            )

    return layer


class LayerInterceptor(grpc.aio.ServerInterceptor):
    """Puts the layers around every handler, whichever of the four kinds and however written."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method.removeprefix("/")
        kind = f"{'stream' if handler.request_streaming else 'unary'}_"
        kind += "stream" if handler.response_streaming else "unary"
        behaviour: Callable[..., Any] = getattr(handler, kind)
        wrap = self._around_stream if handler.response_streaming else self._around_unary
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(wrap(method, behaviour), handler.request_deserializer, handler.response_serializer)

    def _around_unary(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def unary(request: object, context: Context) -> object:
            async with self._entered(Call(method, context, streams=False)):
                if inspect.iscoroutinefunction(behaviour):
                    return await behaviour(request, context)
                return await in_thread(behaviour, request, context)

        return unary

    def _around_stream(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        # It writes rather than yields: a generator may be closed from another task, where what the layers
        # put into context variables cannot be taken back.
        async def stream(request: object, context: Context) -> None:
            async with self._entered(Call(method, context, streams=True)):
                if inspect.iscoroutinefunction(behaviour):
                    await behaviour(request, context)
                    return
                if inspect.isasyncgenfunction(behaviour):
                    responses = behaviour(request, context)
                else:
                    responses = iterate_in_thread(behaviour, request, context)
                async with aclosing(responses):
                    async for response in responses:
                        await context.write(response)

        return stream

    @asynccontextmanager
    async def _entered(self, call: Call) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for layer in self._layers:
                await stack.enter_async_context(layer(call))
            yield
