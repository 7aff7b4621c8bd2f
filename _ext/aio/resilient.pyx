# cython: language_level=3
"""Unary calls with a client's layers around them, without a task of their own.

A call goes through `layers` (outbound.pyx: they await nothing) to the dispatcher of the endpoint that was
picked. How an attempt ended is told to the layers; they end the call, or it makes the next attempt, at once
or by a timer. All that a successful call takes is compiled.
"""

from asyncio import CancelledError
from asyncio import get_running_loop as running_loop

from cpython.bytes cimport PyBytes_CheckExact
from libc.stdint cimport int64_t

from tai_grpc._ext.aio.call cimport DONE, HELD, WAITING, Deadline, status_of
from tai_grpc._ext.aio.calls cimport UnaryResponse
from tai_grpc._ext.aio.dispatcher cimport Dispatcher
from tai_grpc._ext.aio.timers cimport timers_of
from tai_grpc._ext.http2.buffers cimport buffer_append_field
from tai_grpc._ext.http2.metadata cimport metadata_append, metadata_of
from tai_grpc._ext.http2.status cimport CANCELLED, DEADLINE_EXCEEDED, OK, RESOURCE_EXHAUSTED, UNAVAILABLE
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.outbound cimport TRACE_DIGITS, TRACEPARENT_SIZE, Outbound, OutboundCall

from grpc import Compression
from grpc.aio import UsageError

from tai_grpc.errors import CircuitOpenError, DeadlineError, TaiGrpcError

cdef frozenset NOWHERE = frozenset()


cdef class Caller:
    """Makes the unary calls of one client. All in its loop's thread.

    `after(call, code, details, initial_metadata, trailing_metadata, sent)` takes note of a failed attempt and
    returns the seconds until the next one, or None. `refusal()` says why every endpoint refuses, and
    `error(call, code, details, initial_metadata, trailing_metadata)` makes the exception of a failed call;
    `call` is its OutboundCall. `find(address)` returns the Dispatcher of an endpoint; it is asked once for
    each, and again after `forget`. At most `max_calls` are under way; one more ends with RESOURCE_EXHAUSTED.
    """

    def __init__(self, Outbound layers not None, *, after, refusal, error, find, Py_ssize_t max_calls):
        self.layers = layers
        self.after = after
        self.refusal = refusal
        self.error = error
        self.find = find
        self.dispatchers = {}
        self.calls = set()
        self.max_calls = max_calls
        self.closed = "this GrpcClient is not open: make calls inside `async with GrpcClient(...) as client:`"

    def open(self, loop):
        """Take calls, in this loop."""
        self.loop = loop
        self.timers = timers_of(loop)
        self.nowhere = Dispatcher(loop, None)
        self.closed = None

    def forget(self, address):
        """Ask for this endpoint's dispatcher anew."""
        self.dispatchers.pop(address, None)

    def stop(self, str why not None):
        """Take no more calls."""
        self.closed = why

    async def wait_idle(self):
        """Wait until no call is under way."""
        while self.calls:
            if self.idle_waiter is None:
                self.idle_waiter = self.loop.create_future()
            await self.idle_waiter

    def cut_off(self, str details not None):
        """End every call that is under way with CANCELLED."""
        cdef ResilientCall call
        for call in list(self.calls):
            call.abandon()
            call.out.committed = True
            call.finish(CANCELLED, details)

    cdef int start(self, ResilientCall call) except -1:
        call.caller = self
        call.dispatcher = self.nowhere
        self.calls.add(call)
        return 0

    cdef int leave(self, ResilientCall call) except -1:
        self.calls.discard(call)
        if self.idle_waiter is not None and not self.calls:
            waiter, self.idle_waiter = self.idle_waiter, None
            if not waiter.done():
                waiter.set_result(None)
        return 0


cdef class ResilientMethod:
    """A unary method, called to make calls, with grpc.aio's arguments.

    `timeout` is in seconds. `wait_for_ready` waits for the endpoint that was picked; a breaker still refuses.
    """

    def __init__(self, Caller caller not None, str method not None, serialize, deserialize):
        self.caller = caller
        self.method = method
        self.path = method.encode()
        self.serialize = serialize
        self.deserialize = deserialize

    def __call__(
        self, request, *, timeout=None, metadata=None, credentials=None, wait_for_ready=None, compression=None
    ):
        cdef Caller caller = self.caller
        cdef ResilientCall call
        cdef OutboundCall out
        if caller.closed is not None:
            raise TaiGrpcError(caller.closed)
        if caller.loop is not running_loop():
            raise TaiGrpcError("this GrpcClient belongs to another event loop: make one in each")
        if credentials is not None:
            raise UsageError("Call credentials are only valid on secure channels")
        data = request if self.serialize is None else self.serialize(request)
        if not PyBytes_CheckExact(data):
            raise TypeError(f"a request must be bytes once it is serialized: got {type(data).__name__}")
        out = OutboundCall.__new__(OutboundCall)
        out.method = self.method
        out.timeout = timeout
        out.metadata = () if metadata is None else tuple(metadata)
        out.deadline_ns = -1
        out.endpoint = ""
        out.failed_at = NOWHERE
        call = ResilientCall.__new__(ResilientCall)
        call.out = out
        call.method = self.path
        call.deserialize = self.deserialize
        call.request = <bytes>data
        call.half_closed = True
        if compression is not None:
            call.encoding = int(Compression(compression))
        if wait_for_ready is not None:
            call.wait_for_ready = bool(wait_for_ready)
        metadata_append(out.metadata, &call.fields)
        caller.start(call)
        call.begin_layers()
        return call


cdef class Wait(TimerEntry):
    """Between two attempts of a call."""

    cdef int expired(self) except -1:
        cdef ResilientCall call = self.call
        self.call = None
        if call is not None and call.state == HELD:
            call.attempt()
        return 0


cdef class ResilientCall(UnaryUnaryCall):
    """A unary call over as many attempts as the layers want. A failed one raises `CallError`."""

    cdef int begin_layers(self) except -1:
        cdef OutboundCall out = self.out
        cdef Caller caller = self.caller
        cdef Outbound layers = caller.layers
        if len(caller.calls) > caller.max_calls:
            out.committed = True
            return self.finish(RESOURCE_EXHAUSTED, f"this client has {caller.max_calls} calls in flight")
        try:
            layers.begin(out)
        except DeadlineError as error:
            out.committed = True
            return self.finish(DEADLINE_EXCEEDED, str(error))
        except Exception:
            caller.calls.discard(self)
            self.state = DONE
            layers.end(out, False)
            raise
        if out.traced:
            self.append(b"traceparent", 11, out.traceparent, TRACEPARENT_SIZE)
            if out.alias is None:
                self.append(b"x-trace-id", 10, out.traceparent + 3, TRACE_DIGITS)
            else:
                self.append(b"x-trace-id", 10, out.alias, len(out.alias))
        self.own_fields = self.fields.size
        if out.deadline_ns >= 0:
            self.deadline_ns = out.deadline_ns
            self.timer = Deadline.__new__(Deadline)
            self.timer.call = <void *>self
            caller.timers.arm(self.timer, self.deadline_ns)
        return self.attempt()

    cdef int append(self, const char *name, size_t name_size, const char *value, size_t value_size) except -1:
        if buffer_append_field(&self.fields, name, name_size, value, value_size) != 0:
            raise MemoryError
        return 0

    cdef int attempt(self) except -1:
        cdef OutboundCall out = self.out
        cdef Caller caller = self.caller
        try:
            caller.layers.attempt(out)
        except CircuitOpenError:
            out.committed = True
            return self.finish(UNAVAILABLE, caller.refusal())
        dispatcher = caller.dispatchers.get(out.endpoint)
        if dispatcher is None:
            dispatcher = caller.dispatchers[out.endpoint] = caller.find(out.endpoint)
        self.dispatcher = <Dispatcher?>dispatcher
        self.dispatcher.start(self)
        self.state = WAITING
        return self.dispatcher.route(self)

    cdef int finish(self, int code, str details) except -1:
        cdef OutboundCall out = self.out
        cdef Caller caller = self.caller
        if self.state == DONE:
            return 0
        if self.locally_cancelled:
            caller.layers.give_up(out)
        elif code == OK:
            caller.layers.succeeded(out)
            caller.layers.end(out, True)
        else:
            out.committed = out.committed or self.answered
            if out.picked is not None:
                wait = caller.after(
                    out, status_of(code), details, self.received(), self.trailers(), self.stream is not NULL
                )
                if wait is not None:
                    return self.again(wait)
            caller.layers.end(out, False)
        caller.leave(self)
        return UnaryResponse.finish(self, code, details)

    cdef int again(self, double wait) except -1:
        """Forget the last attempt, and make the next one in `wait` seconds."""
        cdef bytes made
        self.dispatcher.leave(self)
        self.detach()
        self.connection = None
        self.answered = False
        self.retried = False
        self.has_message = False
        self.message = None
        self.fields.size = self.own_fields
        if self.out.retries.made:
            made = str(self.out.retries.made).encode()
            self.append(b"grpc-previous-rpc-attempts", 26, made, len(made))
        self.state = HELD
        if wait <= 0.0:
            return self.attempt()
        self.wait = Wait.__new__(Wait)
        self.wait.call = self
        self.caller.timers.arm(self.wait, monotonic_ns() + <int64_t>(wait * 1e9))
        return 0

    cdef int done_hook(self) except -1:
        if self.wait is not None:
            self.wait.call = None
            self.caller.timers.disarm(self.wait)
            self.wait = None
        return 0

    cdef tuple received(self):
        return metadata_of(&self.stream.metadata) if self.stream is not NULL and self.answered else ()

    cdef tuple trailers(self):
        return metadata_of(&self.stream.trailers) if self.stream is not NULL else ()

    cdef object error(self):
        if self.locally_cancelled:
            return CancelledError()
        return self.caller.error(
            self.out, status_of(self.code_number), self.details_text, self.received(), self.trailers()
        )
