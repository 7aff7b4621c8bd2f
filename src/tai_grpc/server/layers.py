"""What every call passes on its way in, and the one place that states the order.

trace, metrics -> deadline -> handler. The order means: a call that runs out of time is still traced, counted
and logged; what the handler calls on inherits both its trace and the time it has left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from time import monotonic, monotonic_ns
from typing import Any, Final, NamedTuple

import grpc

from tai_grpc.config import GrpcServerConfig, Transport
from tai_grpc.handlers import Context, Handler, adapted, kind_of
from tai_grpc.observability.tracing import CURRENT_TRACE, ServedTrace
from tai_grpc.resilience.timeout import CURRENT_DEADLINE
from tai_grpc.server.counts import ServerCounts
from tai_grpc.status import StatusCode

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


class Method(NamedTuple):
    """What is served. `name` is "pkg.Service/Method"; `streams` when its answer is a stream.

    `uploads` when its requests are a stream. `serialize` is for the one answer; None: it is bytes.
    """

    name: str
    streams: bool
    uploads: bool
    serialize: Callable[[Any], Any] | None

    def answer(self, response: Any) -> bytes:
        """Return the one response as it is sent."""
        data = response if self.serialize is None else self.serialize(response)
        if not isinstance(data, bytes):
            raise TypeError(f"the handler returned {type(response).__name__}, which cannot be sent")
        return data


Behaviour = Callable[[Any, Context], Awaitable[Any]]
"""What answers a request: a handler, or one with layers around it."""

Layer = Callable[[Method, Behaviour], Behaviour]
"""Puts itself around what is further in. That happens once for a method, not at every call."""


def server_layers(config: GrpcServerConfig, transport: Transport, counts: ServerCounts) -> Sequence[Layer]:
    """Return the layers, the outermost first."""
    if transport == "native":
        return (observed(counts), inherited)  # it ends each call at the server's maximum by itself
    return (observed(counts), deadline(config.max_timeout, config.max_stream_timeout), unbroken)


def observed(counts: ServerCounts) -> Layer:
    """Take up the caller's trace, or start one, count the call, and log how it went, once.

    A handler's unforeseen exception is logged with its traceback and answered with UNKNOWN; its text stays
    here, since it may tell what a caller should not know.
    """
    started, ended, failed, record = (
        counts.started.add,
        counts.ended.add,
        counts.failed.add,
        counts.latency.record,
    )

    def layer(method: Method, proceed: Behaviour) -> Behaviour:
        streams, answer = method.streams, method.answer

        async def serve(request: Any, context: Context) -> Any:
            begun_ns = monotonic_ns()
            # Each call has a context of its own, which ends with it: nothing is to be put back.
            CURRENT_TRACE.set(ServedTrace(context))
            started()
            try:
                response = await proceed(request, context)
                given = context.code()
                code = _code(given) if given else StatusCode.OK
                if not streams:
                    # Here, so that what cannot be serialized counts as the failure that its caller sees.
                    response = answer(response) if code is StatusCode.OK else b""
            except BaseException as error:
                ended()
                failed()
                await _failed(method, context, begun_ns, error)
                raise
            ended()
            if code is not StatusCode.OK:
                failed()
            elif not streams:
                record((monotonic_ns() - begun_ns) // 1000)
            if _log.isEnabledFor(logging.DEBUG):
                _note(method, context, begun_ns, logging.DEBUG, code)
            return response

        return serve

    return layer


async def _failed(method: Method, context: Context, begun_ns: int, error: BaseException) -> None:
    """Log what a handler raised; unless that says itself how the call ends, abort it."""
    if isinstance(error, asyncio.CancelledError):
        _note(method, context, begun_ns, logging.DEBUG, StatusCode.CANCELLED)
        return
    code = _code(context.code())
    level = logging.WARNING if code in _SERVER_FAULTS else logging.DEBUG
    if isinstance(error, (grpc.aio.AbortError, grpc.aio.BaseError)):
        _note(method, context, begun_ns, level, code)
    elif not isinstance(error, Exception):
        return
    elif code is not StatusCode.OK:
        # As generated code does where a method is not implemented: it says so, then raises.
        _note(method, context, begun_ns, level, code)
        await context.abort(code, context.details() or str(error))
    else:
        _note(method, context, begun_ns, logging.ERROR, StatusCode.UNKNOWN, error=error)
        await context.abort(
            StatusCode.UNKNOWN, f"the handler failed; the server's log has trace_id={_trace_id()}"
        )


def _note(
    method: Method,
    context: Context,
    begun_ns: int,
    level: int,
    code: StatusCode,
    *,
    error: BaseException | None = None,
) -> None:
    if _log.isEnabledFor(level):
        trace_id = _trace_id()
        fields = {
            "method": method.name,
            "code": code.name,
            "duration_ms": round((monotonic_ns() - begun_ns) / 1e6, 3),
            "peer": context.peer(),
            "trace_id": trace_id,
        }
        # Its caller was told this id: the message has it, for logs that print no fields.
        where = f", trace_id={trace_id}" if error else ""
        _log.log(level, "%s answered %s%s", method.name, code.name, where, extra=fields, exc_info=error)


def _trace_id() -> str:
    trace = CURRENT_TRACE.get()
    return trace.trace_id if trace else "-"


def _code(given: object) -> StatusCode:
    """What a handler has set: a member, its number, or nothing; all else is sent as UNKNOWN."""
    if given is None:
        return StatusCode.OK
    for member in StatusCode:
        if given in (member, member.value[0]):
            return member
    return StatusCode.UNKNOWN


def inherited(method: Method, proceed: Behaviour) -> Behaviour:
    """Let the calls that the handler makes have no more time than it has."""

    async def serve(request: Any, context: Context) -> Any:
        left = context.time_remaining()
        if left is not None:
            CURRENT_DEADLINE.set(monotonic() + left)
        return await proceed(request, context)

    return serve


def deadline(max_timeout: float, max_stream_timeout: float | None) -> Layer:
    """Cut each call's time to the server's maximum, and cancel its handler when that is over."""

    def layer(method: Method, proceed: Behaviour) -> Behaviour:
        limit = max_stream_timeout if method.streams else max_timeout

        async def serve(request: Any, context: Context) -> Any:
            asked = context.time_remaining()
            timeout = min((seconds for seconds in (limit, asked) if seconds is not None), default=None)
            if timeout is None:
                return await proceed(request, context)
            CURRENT_DEADLINE.set(monotonic() + timeout)
            try:
                async with asyncio.timeout(timeout) as scope:
                    return await proceed(request, context)
            except TimeoutError:
                if not scope.expired():
                    raise
                who = "the server" if timeout == limit else "its caller"
                why = f"the call took longer than the {timeout:.3f} s that {who} allows"
                await context.abort(StatusCode.DEADLINE_EXCEEDED, why)

        return serve

    return layer


def unbroken(method: Method, proceed: Behaviour) -> Behaviour:
    """Tell requests that their client broke off from those that have ended, as grpcio does not.

    Its iterator ends either way, and only then comes the news that the call was cancelled.
    """
    if not method.uploads:
        return proceed

    async def serve(requests: Any, context: Context) -> Any:
        async def checked() -> AsyncGenerator[Any]:
            async for request in requests:
                yield request
            # There is nothing left to read. Asking takes so long as that news needs to cancel this task.
            await context.read()

        return await proceed(checked(), context)

    return serve


def layered(layers: Sequence[Layer], method: str, handler: Handler, pool: Executor) -> Handler:
    """Return a handler with the layers around it, whichever of the four kinds it is and however written.

    `method` is "pkg.Service/Method". Plain functions run in `pool`.
    """
    behaviour, generates = adapted(method, handler, pool)
    served = _written(behaviour) if generates else behaviour
    streams, serialize = bool(handler.response_streaming), handler.response_serializer
    described = Method(method, streams, bool(handler.request_streaming), serialize)
    for layer in reversed(layers):
        served = layer(described, served)
    make: Callable[..., Handler] = getattr(grpc, f"{kind_of(handler)}_rpc_method_handler")
    return make(served, handler.request_deserializer, serialize if streams else None)


def _written(generate: Callable[..., AsyncGenerator[Any]]) -> Behaviour:
    # It writes rather than yields: a generator may be closed from another task, in another context.
    async def write(request: object, context: Context) -> None:
        async with aclosing(generate(request, context)) as responses:
            async for response in responses:
                await context.write(response)

    return write


class LayerInterceptor(grpc.aio.ServerInterceptor):
    """Puts the layers around every handler of a grpc.aio server."""

    def __init__(self, layers: Sequence[Layer], pool: Executor) -> None:
        self._layers = layers
        self._pool = pool

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        return layered(self._layers, handler_call_details.method.removeprefix("/"), handler, self._pool)
