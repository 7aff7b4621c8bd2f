"""What every call passes on its way in, and the one place that states the order.

trace -> deadline -> handler. The order means: a call that runs out of time is still traced and logged; what
the handler calls on inherits both its trace and the time it has left.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import grpc

from tai_grpc.config import GrpcServerConfig, Transport
from tai_grpc.observability.tracing import CURRENT_TRACE, TraceContext
from tai_grpc.resilience.timeout import CURRENT_DEADLINE
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


class Call(NamedTuple):
    """A call on its way in. `method` is "pkg.Service/Method"; `streams` when its answer is a stream."""

    method: str
    context: Context
    streams: bool


Proceed = Callable[[], Awaitable[Any]]
"""What is further in: the next layer, or at last the handler."""

Layer = Callable[[Call, Proceed], Awaitable[Any]]


def server_layers(config: GrpcServerConfig, transport: Transport) -> Sequence[Layer]:
    """Return the layers, the outermost first."""
    if transport == "native":
        return (traced, inherited)  # it ends each call at the server's maximum by itself
    return (traced, deadline(config.max_timeout, config.max_stream_timeout))


async def traced(call: Call, proceed: Proceed) -> Any:
    """Take up the caller's trace, or start one, and log how the call went, once.

    A handler's unforeseen exception is logged with its traceback and answered with UNKNOWN; its text stays
    here, since it may tell what a caller should not know.
    """
    parent = TraceContext.from_metadata(call.context.invocation_metadata() or ())
    trace = parent.child() if parent else TraceContext.new()
    begun = time.monotonic()
    # Each call has a context of its own, which ends with it: nothing is to be put back.
    CURRENT_TRACE.set(trace)
    try:
        response = await proceed()
    except asyncio.CancelledError:
        _note(call, begun, logging.DEBUG, StatusCode.CANCELLED)
        raise
    except (grpc.aio.AbortError, grpc.aio.BaseError):
        code = _code(call.context)
        _note(call, begun, logging.WARNING if code in _SERVER_FAULTS else logging.DEBUG, code)
        raise
    except Exception as error:
        code = _code(call.context)
        if code is not StatusCode.OK:
            # As generated code does where a method is not implemented: it says so, then raises.
            _note(call, begun, logging.WARNING if code in _SERVER_FAULTS else logging.DEBUG, code)
            await call.context.abort(code, call.context.details() or str(error))
        _note(call, begun, logging.ERROR, StatusCode.UNKNOWN, error)
        await call.context.abort(
            StatusCode.UNKNOWN, f"the handler failed; the server's log has trace_id={trace.trace_id}"
        )
    if _log.isEnabledFor(logging.DEBUG):
        _note(call, begun, logging.DEBUG, _code(call.context))
    return response


def _note(call: Call, begun: float, level: int, code: StatusCode, error: BaseException | None = None) -> None:
    if _log.isEnabledFor(level):
        fields = {
            "method": call.method,
            "code": code.name,
            "duration_ms": round((time.monotonic() - begun) * 1e3, 3),
            "peer": call.context.peer(),
        }
        _log.log(level, "%s answered %s", call.method, code.name, extra=fields, exc_info=error)


def _code(context: Context) -> StatusCode:
    code: object = context.code()
    for member in StatusCode:
        if code in (member, member.value[0]):
            return member
    return StatusCode.OK


async def inherited(call: Call, proceed: Proceed) -> Any:
    """Let the calls that the handler makes have no more time than it has."""
    left = call.context.time_remaining()
    if left is not None:
        CURRENT_DEADLINE.set(time.monotonic() + left)
    return await proceed()


def deadline(max_timeout: float, max_stream_timeout: float | None) -> Layer:
    """Cut each call's time to the server's maximum, and cancel its handler when that is over."""

    async def layer(call: Call, proceed: Proceed) -> Any:
        limit = max_stream_timeout if call.streams else max_timeout
        asked = call.context.time_remaining()
        timeout = min((seconds for seconds in (limit, asked) if seconds is not None), default=None)
        if timeout is None:
            return await proceed()
        CURRENT_DEADLINE.set(time.monotonic() + timeout)
        try:
            async with asyncio.timeout(timeout) as scope:
                return await proceed()
        except TimeoutError:
            if not scope.expired():
                raise
            whose = "the server's maximum" if timeout == limit else "the caller's"
            await call.context.abort(
                StatusCode.DEADLINE_EXCEEDED, f"the deadline, {whose}, passed after {timeout:.3f} s"
            )

    return layer


Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def layered(layers: Sequence[Layer], method: str, handler: Handler) -> Handler:
    """Return a handler with the layers around it, whichever of the four kinds it is and however written.

    `method` is "pkg.Service/Method".
    """
    kind = f"{'stream' if handler.request_streaming else 'unary'}_"
    kind += "stream" if handler.response_streaming else "unary"
    behaviour: Callable[..., Any] = getattr(handler, kind)
    inner = _stream(behaviour) if handler.response_streaming else _unary(behaviour)

    async def around(request: object, context: Context) -> Any:
        call = Call(method, context, handler.response_streaming)
        proceed: Proceed = partial(inner, request, context)
        for layer in inwards:
            proceed = partial(layer, call, proceed)
        return await proceed()

    inwards = tuple(reversed(layers))
    make: Callable[..., Handler] = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(around, handler.request_deserializer, handler.response_serializer)


def _unary(behaviour: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    if inspect.iscoroutinefunction(behaviour):
        return behaviour
    return partial(in_thread, behaviour)


def _stream(behaviour: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    if inspect.iscoroutinefunction(behaviour):
        return behaviour
    generate = behaviour if inspect.isasyncgenfunction(behaviour) else partial(iterate_in_thread, behaviour)

    # It writes rather than yields: a generator may be closed from another task, in another context.
    async def write(request: object, context: Context) -> None:
        async with aclosing(generate(request, context)) as responses:
            async for response in responses:
                await context.write(response)

    return write


class LayerInterceptor(grpc.aio.ServerInterceptor):
    """Puts the layers around every handler of a grpc.aio server."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return layered(self._layers, handler_call_details.method.removeprefix("/"), handler)
