# cython: language_level=3
"""Unary calls with a client's layers around them, without a task of their own.

A call is a driver of `layers` (outbound.pyx): it goes through the dispatcher of the endpoint that they name,
tells them how the attempt ended, and does what they say next, at once or by a timer. All that a successful
call takes is compiled.
"""

from asyncio import CancelledError
from asyncio import get_running_loop as running_loop

from cpython.bytes cimport PyBytes_CheckExact
from libc.stdint cimport int64_t
from libc.string cimport strlen

from tai_grpc._ext.aio.call cimport DONE, HELD, WAITING, Deadline, status_of
from tai_grpc._ext.aio.calls cimport UnaryResponse
from tai_grpc._ext.aio.dispatcher cimport Dispatcher
from tai_grpc._ext.aio.timers cimport timers_of
from tai_grpc._ext.http2.buffers cimport Buffer, buffer_append_field
from tai_grpc._ext.http2.metadata cimport metadata_append, metadata_of
from tai_grpc._ext.http2.status cimport CANCELLED, OK, RESOURCE_EXHAUSTED
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.outbound cimport END, WAIT, Outbound, OutboundCall

from grpc import Compression
from grpc.aio import Metadata, UsageError

from tai_grpc.errors import TaiGrpcError

cdef object _metadata_from = Metadata.from_tuple


cdef class Caller:
    """Makes the unary calls of one client. All in its loop's thread.

    `reply(code, details, initial_metadata, trailing_metadata, message, sent)` makes what the layers are told
    of a failed attempt, and `error(call, reply)` the exception of a failed call; `call` is its OutboundCall.
    `find(address)` returns the Dispatcher of an endpoint; it is asked once for each, and again after
    `forget`. At most `max_calls` are under way; one more ends with RESOURCE_EXHAUSTED.
    """

    def __init__(self, Outbound layers not None, *, reply, error, find, Py_ssize_t max_calls):
        self.layers = layers
        self.reply = reply
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
        out.ask(self.method, timeout, metadata)
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
        call.asked_fields = call.fields.size
        caller.start(call)
        call.start()
        return call


cdef class Wait(TimerEntry):
    """Between two attempts of a call."""

    cdef int expired(self) except -1:
        cdef ResilientCall call = self.call
        self.call = None
        if call is not None and call.state == HELD:
            call.proceed(None)
        return 0


cdef int append_field(void *fields, const char *name, const char *value, size_t size) except -1:
    if buffer_append_field(<Buffer *>fields, name, strlen(name), value, size) != 0:
        raise MemoryError
    return 0


cdef class ResilientCall(UnaryUnaryCall):
    """A unary call over as many attempts as the layers want. A failed one raises `CallError`."""

    cdef int start(self) except -1:
        cdef Caller caller = self.caller
        if len(caller.calls) > caller.max_calls:
            return self.finish(RESOURCE_EXHAUSTED, f"this client has {caller.max_calls} calls in flight")
        try:
            return self.proceed(None)
        except Exception:
            caller.calls.discard(self)
            self.state = DONE
            caller.layers.fail(self.out)
            raise

    cdef int proceed(self, object ended) except -1:
        """Do what the layers say; `ended` is how the last attempt ended, None: there was none."""
        cdef OutboundCall out = self.out
        cdef Caller caller = self.caller
        cdef int step = caller.layers.next_step(out, ended)
        if ended is not None and step != END:
            self.forget_attempt()
        if step == END:
            return self.finish_call(out.reply.code.value[0], out.reply.details)
        if step == WAIT:
            self.state = HELD
            self.wait = Wait.__new__(Wait)
            self.wait.call = self
            caller.timers.arm(self.wait, monotonic_ns() + <int64_t>(out.wait * 1e9))
            return 0
        return self.attempt()

    cdef int attempt(self) except -1:
        cdef OutboundCall out = self.out
        cdef Caller caller = self.caller
        self.fields.size = self.asked_fields
        out.own_fields(append_field, &self.fields)
        if out.deadline_ns >= 0 and self.timer is None:
            self.deadline_ns = out.deadline_ns
            self.timer = Deadline.__new__(Deadline)
            self.timer.call = <void *>self
            caller.timers.arm(self.timer, self.deadline_ns)
        dispatcher = caller.dispatchers.get(out.endpoint)
        if dispatcher is None:
            dispatcher = caller.dispatchers[out.endpoint] = caller.find(out.endpoint)
        self.dispatcher = <Dispatcher?>dispatcher
        self.dispatcher.start(self)
        self.state = WAITING
        return self.dispatcher.route(self)

    cdef int finish(self, int code, str details) except -1:
        """The attempt has ended, or the call between two of them."""
        cdef OutboundCall out = self.out
        cdef Outbound layers = self.caller.layers
        if self.state == DONE:
            return 0
        if self.locally_cancelled:
            layers.give_up(out)
        elif code == OK:
            layers.succeeded(out)
        else:
            out.committed = self.answered
            return self.proceed(self.caller.reply(
                status_of(code), details, self.received(), self.trailers(), None, self.stream is not NULL
            ))
        return self.finish_call(code, details)

    cdef int finish_call(self, int code, str details) except -1:
        self.caller.leave(self)
        return UnaryResponse.finish(self, code, details)

    cdef int forget_attempt(self) except -1:
        """Make room for another one."""
        self.dispatcher.leave(self)
        self.detach()
        self.connection = None
        self.answered = False
        self.retried = False
        self.has_message = False
        self.message = None
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

    cdef object initial(self):
        if self.code_number == OK or self.locally_cancelled:
            return UnaryResponse.initial(self)
        return _metadata_from(self.out.reply.initial_metadata)

    cdef object trailing(self):
        if self.code_number == OK or self.locally_cancelled:
            return UnaryResponse.trailing(self)
        return _metadata_from(self.out.reply.trailing_metadata)

    cdef object error(self):
        return CancelledError() if self.locally_cancelled else self.caller.error(self.out, self.out.reply)
