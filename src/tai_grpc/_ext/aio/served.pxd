"""A call on a server, from request to status, and the task of its handler. See served.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.aio.callstream cimport CallStream, Read, Requests
from tai_grpc._ext.aio.connection cimport Connection
from tai_grpc._ext.aio.service cimport Method, Service
from tai_grpc._ext.aio.task cimport CallTask
from tai_grpc._ext.http2.state cimport StreamState


# The code of a StatusCode or a number; UNKNOWN for what is neither.
cdef int code_number(object code) except -1
# What a client is told of an error that nobody expected.
cdef str described(object error)
# A transport's address of its peer, as gRPC writes it.
cdef str peer_name(object address)


cdef class Peer:
    cdef Service service
    cdef str name
    cdef object ssl_object  # None: no TLS
    cdef dict auth

    cdef dict authentication(self)


cdef class HandlerTask(CallTask):
    cdef ServedCall call


cdef class ServedCall(CallStream):
    cdef Service service
    cdef Peer peer_info
    cdef Method method  # None: the interceptors have not said yet
    cdef HandlerTask task  # None once the handler has ended
    cdef bint admitted  # counts among Service.admitted
    cdef bint gathering  # the one request, before the handler begins
    cdef bint running  # counts among Service.calls
    cdef bint ended  # the handler has, or never will begin
    cdef bint settled  # the status that was sent is the handler's own
    cdef int64_t deadline_ns  # 0: none
    cdef int64_t limit_ns  # the server's maximum, where that is the deadline; 0: it is the client's
    cdef tuple metadata
    cdef object code_given
    cdef str details_given
    cdef tuple trailing
    cdef bint aborted
    cdef object abort_error  # until the handler has ended
    cdef list done_callbacks

    cdef int accept(
        self, StreamState *stream, Connection connection, Service service, Peer peer, Method method,
        int64_t now_ns,
    ) except -1
    cdef int limit_time(self, Method method, int64_t now_ns) except -1
    cdef str path(self)
    cdef tuple invocation(self)
    # What the connection tells of the stream.
    cdef int one_message(self, object message) except -1
    cdef int half_closed(self) except -1
    cdef int stream_closed(self) except -1
    # The handler's way.
    cdef int begin_handler(self) except -1
    cdef int handler_ended(self, HandlerTask task) except -1
    cdef int _succeeded(self, object outcome) except -1
    cdef int _failed(self, object error) except -1
    cdef int _leave(self) except -1
    cdef int deadline_passed(self) except -1
    cdef int report(self, str message, object error) except -1
    cdef int settle(self, int code, str details, tuple trailing) except -1
    cdef int finish(self, int code, str details, tuple trailing) except -1
    # What the handler reads: an awaitable of the next request, and an iterator of all.
    cdef Read reading(self)
    cdef Requests all_requests(self)
