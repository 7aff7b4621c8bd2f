"""The messages of one call on a server, both ways. See callstream.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.aio.connection cimport Connection
from tai_grpc._ext.aio.messages cimport MessageQueue, Packed
from tai_grpc._ext.http2.state cimport StreamState


cdef class CallStream:
    cdef StreamState *stream  # attached; NULL before `take_on`
    cdef Connection connection  # None once the stream is closed
    cdef object loop
    cdef object deserialize
    cdef object serialize
    cdef int64_t max_receive_bytes
    cdef int64_t max_send_bytes
    cdef int64_t max_queued_bytes  # of all streams of the connection
    # What has arrived and was not read yet.
    cdef object only  # of a call with one request
    cdef MessageQueue arrived  # None: nothing has
    cdef bint complete  # no message follows
    cdef list readers  # futures of those that wait, None: nobody does
    cdef list writers
    cdef bint closed  # the stream is gone
    cdef bint finished  # the status has been sent
    cdef bint headers_sent
    cdef int encoding
    cdef bint next_as_is
    cdef object refusal  # what reading and writing raise from now on

    cdef int take_on(self, StreamState *stream, Connection connection, object loop) except -1
    cdef int message_arrived(self, object message) except -1
    cdef int wake_readers(self) except -1
    cdef int wake_writers(self) except -1
    cdef bint holds_message(self) noexcept
    cdef object next_message(self)
    cdef bytes unpacked(self, Packed message)
    cdef int check(self) except -1
    cdef int send(self, object message) except -1
    cdef int send_bytes(self, bytes data) except -1
    cdef bytes serialized(self, object message)
    cdef bint must_wait(self) noexcept
    cdef object writable(self)
    cdef object readable(self)
    # Ends the call with a status of the protocol's, not the handler's.
    cdef int fail(self, int code, str details) except -1


cdef class Transfer:
    cdef CallStream call
    cdef object waiting
    cdef bint begun
    cdef bint ended

    cdef object begin_wait(self, object future)
    cdef object go_on_waiting(self)


cdef class Read(Transfer):
    cdef bint iterates

cdef class Write(Transfer):
    cdef object message

cdef class Requests:
    cdef CallStream call
