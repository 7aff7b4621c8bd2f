"""One call, whatever number of attempts it takes: its state, deadline, messages out, status. See call.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.aio.client cimport ClientConnection
from tai_grpc._ext.aio.dispatcher cimport DispatchedCall
from tai_grpc._ext.aio.timers cimport TimerEntry
from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.http2.state cimport Event

cdef enum CallState:
    HELD = 0  # not to be sent yet: its credentials are being fetched
    WAITING = 1  # for a connection
    SENT = 2  # on a stream
    ENDING = 3  # the status is here, messages before it are not read yet
    DONE = 4


cdef class Deadline(TimerEntry):
    cdef void *call  # borrowed, so that a call nobody holds can go before its deadline; NULL: it is gone


cdef class Call(DispatchedCall):
    cdef object __weakref__
    cdef bytes method
    cdef Buffer fields  # metadata to send
    cdef int encoding  # of the messages sent
    cdef int state
    cdef int code_number
    cdef str details_text
    cdef bint kept  # by the dispatcher, until it is done
    cdef bint retried  # after the server had proved that it did not process it
    cdef bint half_closed
    cdef bint locally_cancelled
    cdef bint answered  # the server's initial metadata are here
    cdef int64_t deadline_ns  # 0: none
    cdef Deadline timer
    cdef bytes request  # the only one
    cdef str unsendable  # why it cannot be sent at all; None: it can
    cdef list replay  # or those of a stream, as long as it may have to be sent anew; None: it cannot
    cdef Py_ssize_t replay_bytes
    # Futures: None, one, or a list.
    cdef object end_waiters
    cdef object answer_waiters  # for initial metadata
    cdef object sent_waiters
    cdef object write_waiters
    cdef list callbacks

    cdef object loop(self)
    cdef int set_timeout(self, object timeout) except -1
    # Take it on. Raises UsageError on a closed channel.
    cdef int begin(self, bint held) except -1
    cdef int keep(self) except -1
    cdef int send(self, bytes message) except -1
    cdef int half_close(self) except -1
    cdef int abandon(self) except -1  # the stream, if there is one
    cdef int detach(self) noexcept
    cdef int settle(self, int code, str details) except -1  # the server's word, or the connection's
    cdef int finish(self, int code, str details) except -1
    cdef int stop_timer(self) except -1
    cdef int wake_all(self) except -1
    cdef int done_hook(self) except -1  # for subclasses: it is DONE
    cdef int cancel_call(self, str details) except -1
    cdef bint has_room(self) noexcept  # to write
    cdef int refuse_size(self, Py_ssize_t size) except -1
    cdef str debug_text(self)
    cdef object error(self)  # the exception that says how it ended
    cdef object initial(self)
    cdef object trailing(self)

cdef object status_of(int code)
cdef object wake(object waiters)  # gives None
cdef object with_waiter(object waiters, object waiter)
