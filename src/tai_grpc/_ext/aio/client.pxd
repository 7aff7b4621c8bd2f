"""One connection of a client: its streams' events go to whoever made the calls. See client.pyx.

A peer of streams derives from StreamOwner and calls `ClientConnection.start`.
"""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.aio.connection cimport Connection
from tai_grpc._ext.aio.timers cimport TimerEntry, Timers
from tai_grpc._ext.http2.buffers cimport Buffer
from tai_grpc._ext.http2.state cimport Event, StreamState


cdef class StreamOwner:
    cdef StreamState *stream  # attached; NULL: there is none
    cdef ClientConnection connection

    # Each may start and give up calls. An error goes to the loop's exception handler.
    cdef int on_response(self) except -1
    cdef int on_message(self, const char *data, size_t size, bint compressed) except -1
    cdef int on_writable(self) except -1
    cdef int on_ended(self, const Event *event) except -1


# Pings a connection that is silent, and cuts it off when no answer comes.
cdef class Keepalive(TimerEntry):
    cdef ClientConnection connection
    cdef Timers timers
    cdef int64_t interval_ns
    cdef int64_t timeout_ns
    cdef bint without_calls
    cdef bint waiting  # for the answer to `number`, sent at `pinged_ns`
    cdef int64_t pinged_ns
    cdef uint64_t number

    cdef int begin(self, ClientConnection connection) except -1
    cdef int stop(self) except -1
    cdef int answered(self, uint64_t number) except -1


cdef class ClientConnection(Connection):
    cdef bytes authority
    cdef bytes user_agent
    cdef readonly bint secure
    cdef readonly int64_t max_message_bytes
    cdef object listener
    cdef Keepalive keepalive
    cdef unsigned long thread  # that of the loop
    cdef readonly bint ready  # the peer's settings came
    cdef readonly bint draining  # no new calls: the peer said GOAWAY, or `drain` was called
    cdef readonly bint served  # it was of use: a call was answered
    cdef readonly bint dismissed  # the server said GOAWAY in peace
    cdef bint closing_soon
    cdef readonly str reason  # why it ended, for people; "" before

    # NULL: no call can be started here any more.
    cdef StreamState *start(
        self, StreamOwner owner, bytes method, int64_t timeout_ns, int encoding, const Buffer *metadata
    ) noexcept
    cdef bint is_full(self) noexcept  # as many calls wait for their turn as may
    cdef int give_up(self, StreamState *stream) except -1  # RST_STREAM(CANCEL); no event follows
    # From any thread: give it up if it is open; nothing is told of it any more.
    cdef int let_go(self, StreamState *stream) noexcept
    cdef int release(self, StreamState *stream) noexcept  # likewise; it may be gone then
    cdef int close_when_idle(self) except -1
    cdef int heard_goaway(self, const Event *event) except -1
