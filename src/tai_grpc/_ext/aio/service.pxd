"""What all connections of a server share: its methods, limits, counts and callbacks. See service.pyx."""

from libc.stdint cimport int64_t

from tai_grpc._ext.aio.timers cimport Timers
from tai_grpc._ext.http2.state cimport SessionSettings


cdef class Method:
    cdef readonly str path  # "/pkg.Service/Name"
    cdef readonly object source  # the RpcMethodHandler that it was made of
    cdef object behaviour
    cdef object deserialize  # None: messages are bytes
    cdef object serialize
    cdef readonly bint request_streams
    cdef readonly bint response_streams
    cdef readonly bint generates  # `behaviour` is an async generator function


cdef class Service:
    cdef readonly object loop
    cdef Timers timers
    cdef SessionSettings session
    cdef dict methods  # path as bytes -> Method
    cdef object resolve
    cdef object intercept
    cdef object report
    cdef object describe_peer
    cdef int encoding
    cdef int64_t max_send_bytes
    cdef int64_t max_calls
    cdef int64_t max_connections
    # In nanoseconds; -1: never.
    cdef int64_t handshake_ns
    cdef int64_t keepalive_ns
    cdef int64_t keepalive_timeout_ns
    cdef bint keepalive_without_calls
    cdef int64_t max_age_ns
    cdef int64_t max_age_grace_ns
    cdef int64_t max_idle_ns
    cdef int64_t max_timeout_ns  # of a call with one response
    cdef int64_t max_stream_timeout_ns  # of others
    cdef double stall_timeout
    cdef int64_t stream_stall_ns  # for which a client may take nothing of a stream
    cdef int64_t sweep_ns  # between two looks at that
    cdef int64_t max_queued_bytes  # of one connection, for the client to take
    cdef readonly set connections
    cdef readonly int64_t calls  # handlers that run
    cdef readonly int64_t admitted  # calls that `max_calls` counts: those of a method, from their headers on
    cdef readonly bint draining
    cdef object idle  # a future: nothing is left

    cdef Method method_of(self, bytes path)
    cdef int call_ended(self) except -1
    cdef int check_idle(self) except -1
