"""Where calls get their connection. See dispatcher.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.aio.client cimport ClientConnection, StreamOwner
from tai_grpc._ext.aio.timers cimport Timers


# A place in a ring. The owner is borrowed: who owns it takes it out before it goes.
cdef struct Link:
    Link *previous
    Link *next
    void *owner

cdef void link_init(Link *link, void *owner) noexcept
cdef void link_before(Link *ring, Link *link) noexcept
cdef void unlink(Link *link) noexcept  # nothing happens to one that is in no ring


cdef class DispatchedCall(StreamOwner):
    cdef Dispatcher dispatcher
    cdef Link in_calls  # of its dispatcher's
    cdef Link in_waiting
    cdef bint wait_for_ready

    # Start on this connection. 0: it takes no more calls, 1: done.
    cdef int submit(self, ClientConnection connection) except -1
    # End with a status of our own making.
    cdef int fail(self, int code, str details) except -1
    cdef int close_down(self) except -1  # the channel is closed


cdef class Dispatcher:
    cdef readonly object loop
    cdef readonly Timers timers
    cdef object policy
    cdef list connections
    cdef Py_ssize_t turn
    cdef str failure
    cdef bint wanted  # the policy was asked for a connection
    cdef readonly bint closed
    cdef Link calls
    cdef Link waiting
    cdef set kept  # calls that live until they are done
    cdef readonly Py_ssize_t waiting_calls
    cdef readonly int64_t max_send_bytes  # -1: without limit
    cdef object idle_waiter

    cdef int start(self, DispatchedCall call) except -1
    cdef int route(self, DispatchedCall call) except -1
    cdef int leave(self, DispatchedCall call) except -1  # it has ended
    cdef int forget(self, DispatchedCall call) except -1  # nobody holds it any more; from any thread
    cdef int leave_waiting(self, DispatchedCall call) noexcept
    cdef int route_waiting(self) except -1
    cdef int want(self) except -1
