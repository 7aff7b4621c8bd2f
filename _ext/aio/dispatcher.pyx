# cython: language_level=3
"""Where calls get their connection: the ready ones take them in turn; without one they wait, or fail.

Which connections there are is decided by a policy, a Python object. It calls `use` with those that are ready,
and `fail` while the server cannot be reached: then calls fail at once, but those that wait for ready. The
dispatcher calls its `connection_wanted()` when a call needs a connection and there is none, or one of them
takes no more calls, once until the next `use` or `fail`.
"""

cimport cython
from libc.stdint cimport int64_t

from tai_grpc._ext.aio.client cimport ClientConnection, StreamOwner
from tai_grpc._ext.aio.timers cimport timers_of
from tai_grpc._ext.http2.status cimport RESOURCE_EXHAUSTED, UNAVAILABLE

from grpc.aio import UsageError

from tai_grpc._ext.aio.client_session import QUEUE_FULL

MAX_WAITING_CALLS = 65_536
"""How many calls of one channel wait for a connection; one more ends with RESOURCE_EXHAUSTED."""

cdef Py_ssize_t _MAX_WAITING_CALLS = 65_536


cdef void link_init(Link *link, void *owner) noexcept:
    link.previous = link
    link.next = link
    link.owner = owner


cdef void link_before(Link *ring, Link *link) noexcept:
    link.previous = ring.previous
    link.next = ring
    ring.previous.next = link
    ring.previous = link


cdef void unlink(Link *link) noexcept:
    link.previous.next = link.next
    link.next.previous = link.previous
    link.previous = link
    link.next = link


cdef class DispatchedCall(StreamOwner):
    """A call that a dispatcher finds a connection for. Before it goes it has the dispatcher `forget` it."""

    def __cinit__(self):
        link_init(&self.in_calls, <void *>self)
        link_init(&self.in_waiting, <void *>self)

    cdef int submit(self, ClientConnection connection) except -1:
        return 0

    cdef int fail(self, int code, str details) except -1:
        return 0

    cdef int close_down(self) except -1:
        return 0


@cython.no_gc_clear  # its calls want `timers` when they go
cdef class Dispatcher:
    """Of one channel. In its loop's thread only."""

    def __cinit__(self):
        link_init(&self.calls, NULL)
        link_init(&self.waiting, NULL)

    def __init__(self, loop, policy, int64_t max_send_bytes=-1):
        self.loop = loop
        self.timers = timers_of(loop)
        self.policy = policy
        self.connections = []
        self.kept = set()
        self.max_send_bytes = max_send_bytes

    def __dealloc__(self):
        while self.calls.next != &self.calls:
            unlink(self.calls.next)
        while self.waiting.next != &self.waiting:
            unlink(self.waiting.next)

    # --- For the policy and the channel ---

    @property
    def busy(self):
        """Whether a call is under way."""
        return self.calls.next != &self.calls

    def use(self, connections):
        """From now on these take the calls, in turn; those that wait are sent on their way."""
        self.connections = list(connections)
        self.wanted = False
        if self.connections:
            self.failure = None
            self.route_waiting()

    def fail(self, str details):
        """Until there is a connection, calls fail with UNAVAILABLE and these details; None: they wait."""
        cdef Link *link = self.waiting.next
        cdef Link *following
        cdef DispatchedCall call
        cdef list failed = []
        self.failure = details
        self.wanted = False
        if details is not None:
            while link != &self.waiting:
                following = link.next
                call = <DispatchedCall>link.owner
                if not call.wait_for_ready:
                    failed.append(call)
                link = following
            for call in failed:
                self.leave_waiting(call)
                call.fail(UNAVAILABLE, details)
        if self.waiting_calls > 0:
            self.want()

    def stop(self):
        """Refuse new calls."""
        self.closed = True

    def cancel_calls(self):
        """Cancel every call that is under way."""
        cdef DispatchedCall call
        while self.calls.next != &self.calls:
            call = <DispatchedCall>self.calls.next.owner
            unlink(&call.in_calls)
            call.close_down()

    async def wait_idle(self):
        """Wait until no call is under way."""
        while self.calls.next != &self.calls:
            if self.idle_waiter is None:
                self.idle_waiter = self.loop.create_future()
            await self.idle_waiter

    # --- For calls ---

    cdef int start(self, DispatchedCall call) except -1:
        """Take a call on. Raises UsageError once the channel is closed."""
        if self.closed:
            raise UsageError("Channel is closed.")
        call.dispatcher = self
        link_before(&self.calls, &call.in_calls)
        return 0

    cdef int route(self, DispatchedCall call) except -1:
        cdef ClientConnection connection
        cdef bint lacking = False
        cdef Py_ssize_t count = len(self.connections)
        while count > 0:
            self.turn = self.turn + 1 if self.turn + 1 < count else 0
            connection = <ClientConnection>self.connections[self.turn]
            if not connection.draining and connection.is_full():
                call.fail(RESOURCE_EXHAUSTED, QUEUE_FULL)
                return 0
            if call.submit(connection):
                return self.want() if lacking else 0
            self.connections.remove(connection)
            connection.drain()
            lacking = True
            count -= 1
        if self.failure is not None and not call.wait_for_ready:
            call.fail(UNAVAILABLE, self.failure)
        elif self.waiting_calls >= _MAX_WAITING_CALLS:
            call.fail(RESOURCE_EXHAUSTED, f"{_MAX_WAITING_CALLS} calls of this channel wait for a connection")
        else:
            link_before(&self.waiting, &call.in_waiting)
            self.waiting_calls += 1
            self.want()
        return 0

    cdef int route_waiting(self) except -1:
        cdef DispatchedCall call
        while self.connections and self.waiting_calls > 0:
            call = <DispatchedCall>self.waiting.next.owner
            self.leave_waiting(call)
            self.route(call)
        return 0

    cdef int want(self) except -1:
        if not self.wanted:
            self.wanted = True
            self.policy.connection_wanted()
        return 0

    cdef int leave_waiting(self, DispatchedCall call) noexcept:
        if call.in_waiting.next != &call.in_waiting:
            unlink(&call.in_waiting)
            self.waiting_calls -= 1
        return 0

    cdef int leave(self, DispatchedCall call) except -1:
        self.leave_waiting(call)
        unlink(&call.in_calls)
        if self.idle_waiter is not None:
            self._tell_idle()
        return 0

    cdef int forget(self, DispatchedCall call) except -1:
        self.leave_waiting(call)
        unlink(&call.in_calls)
        if self.idle_waiter is not None and self.calls.next == &self.calls:
            try:
                self.loop.call_soon_threadsafe(self._tell_idle)
            except (AttributeError, RuntimeError):
                pass  # the loop is closed, or garbage like the call and taken apart before it
        return 0

    def _tell_idle(self):
        if self.idle_waiter is not None and self.calls.next == &self.calls:
            waiter, self.idle_waiter = self.idle_waiter, None
            if not waiter.done():
                waiter.set_result(None)
