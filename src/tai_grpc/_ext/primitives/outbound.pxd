"""What a call passes on its way out: see outbound.pyx."""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.primitives.balancer cimport Endpoint, LoadBalancer
from tai_grpc._ext.primitives.histogram cimport LatencyHistogram
from tai_grpc._ext.primitives.retry cimport RetryBudget

cdef enum:
    SPAN_DIGITS = 16
    TRACE_DIGITS = 32
    TRACEPARENT_SIZE = 55

cdef class OutboundCall:
    cdef readonly str method
    cdef readonly object timeout
    cdef readonly bint long_lived
    cdef public tuple metadata
    cdef public bint committed
    cdef readonly int64_t deadline_ns
    cdef readonly int64_t attempts
    cdef readonly str endpoint
    cdef public frozenset failed_at
    cdef public object retries
    cdef bint traced  # its own span is to be sent
    cdef char[TRACEPARENT_SIZE] traceparent
    cdef bytes alias  # x-trace-id; None: the trace id
    cdef Endpoint picked
    cdef int64_t started_ns
    cdef int64_t attempt_ns
    cdef int64_t answered_ns

cdef class Outbound:
    cdef readonly LoadBalancer balancer
    cdef readonly RetryBudget budget
    cdef readonly LatencyHistogram latency
    cdef readonly int64_t calls
    cdef readonly int64_t failed
    cdef readonly int64_t cancelled
    cdef readonly int64_t attempts
    cdef public int64_t retries
    cdef int64_t default_ns
    cdef int64_t max_ns
    cdef int64_t stream_ns
    cdef object current_trace
    cdef object current_deadline
    cdef bytes entropy
    cdef Py_ssize_t entropy_used

    cpdef int begin(self, OutboundCall call) except -1
    cpdef Endpoint attempt(self, OutboundCall call)
    cpdef int proven(self, OutboundCall call) except -1
    cpdef int release(self, OutboundCall call, object success) except -1
    cpdef int succeeded(self, OutboundCall call) except -1
    cpdef int end(self, OutboundCall call, bint ok) except -1
    cpdef int give_up(self, OutboundCall call) except -1
    cdef int _trace(self, OutboundCall call) except -1
    cdef int64_t _deadline(self, OutboundCall call) except -2
    cdef int _random_digits(self, char *digits, Py_ssize_t size) except -1
