"""The server's end of a connection. See server.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.aio.connection cimport Connection
from tai_grpc._ext.aio.served cimport Peer
from tai_grpc._ext.aio.service cimport Method, Service
from tai_grpc._ext.aio.timers cimport TimerEntry
from tai_grpc._ext.http2.state cimport Event, StreamState


cdef class ConnectionTimer(TimerEntry):
    cdef ServerConnection connection


cdef class ServerConnection(Connection):
    cdef Service service
    cdef Peer peer
    cdef ConnectionTimer timer
    # Times of the primitives' clock, in ns; -1: never.
    cdef int64_t setup_due_ns  # until then the preface, or a header block that has begun, must be complete
    cdef int64_t pong_due_ns
    cdef int64_t age_due_ns
    cdef int64_t cut_due_ns
    cdef int64_t sweep_due_ns  # when to look for streams that are stuck
    cdef int64_t drained_ns  # since when it is draining
    cdef int64_t idle_since_ns  # -1: there are streams
    cdef int64_t ping_number
    cdef bint draining

    cdef int request(self, StreamState *stream) except -1
    cdef Method resolved(self, bytes path, StreamState *stream)
    cdef int refuse(self, StreamState *stream, int code, bytes text) except -1
    cdef int stream_gone(self, StreamState *stream) except -1
    cdef int check_times(self) except -1
    # Until when a drain waits for the client's word; -1: it does not.
    cdef int64_t hurry_due_ns(self) noexcept
    cdef int sweep(self, int64_t now_ns) except -1
    cdef int64_t next_check(self, int64_t now_ns) noexcept
    cdef int _set_timer(self, int64_t now_ns) except -1
    cdef int _send_ping(self, int64_t now_ns) except -1
