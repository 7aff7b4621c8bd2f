"""What a call passes on its way out: see outbound.pyx."""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.primitives.balancer cimport Endpoint, LoadBalancer
from tai_grpc._ext.primitives.histogram cimport LatencyHistogram
from tai_grpc._ext.primitives.retry cimport RetryBudget

cdef enum:
    SPAN_DIGITS = 16
    TRACE_DIGITS = 32
    TRACEPARENT_SIZE = 55

cpdef enum:  # what a driver is to do
    ATTEMPT = 0
    WAIT = 1
    END = 2

# Takes a field of a header block: `name` ends with a NUL, `value` has a size.
ctypedef int (*Emit)(void *to, const char *name, const char *value, size_t size) except -1

# Seconds as a caller says them, 0 for a negative number of them. Raises ConfigError.
cdef int64_t timeout_ns(object timeout) except -1

cdef class OutboundCall:
    cdef readonly str method
    cdef readonly bint long_lived
    cdef readonly tuple metadata
    cdef public bint committed
    cdef readonly int64_t deadline_ns
    cdef readonly int64_t attempts
    cdef readonly str endpoint
    cdef readonly frozenset failed_at
    cdef readonly double wait  # seconds until the next attempt
    cdef readonly object reply
    cdef readonly bint over
    cdef public object retries
    cdef int64_t asked_ns  # the caller's timeout; -1: none
    cdef bint traced  # its own span is to be sent
    cdef char[TRACEPARENT_SIZE] traceparent
    cdef bytes alias  # x-trace-id; None: the trace id
    cdef Endpoint picked
    cdef int64_t started_ns  # 0: it is new
    cdef int64_t attempt_ns
    cdef int64_t answered_ns

    cdef int ask(self, str method, object timeout, object metadata) except -1
    cdef int own_fields(self, Emit emit, void *to) except -1

cdef class Outbound:
    cdef readonly LoadBalancer balancer
    cdef readonly RetryBudget budget
    cdef readonly LatencyHistogram latency
    cdef readonly int64_t calls
    cdef readonly int64_t failed
    cdef readonly int64_t cancelled
    cdef readonly int64_t attempts
    cdef readonly int64_t retries
    cdef int64_t default_ns
    cdef int64_t max_ns
    cdef int64_t stream_ns
    cdef object current_trace
    cdef object current_deadline
    cdef bytes entropy
    cdef Py_ssize_t entropy_used

    cpdef int next_step(self, OutboundCall call, object ended) except -1
    cpdef int proven(self, OutboundCall call) except -1
    cpdef int give_up(self, OutboundCall call) except -1
    cpdef int fail(self, OutboundCall call) except -1
    cdef int succeeded(self, OutboundCall call) except -1  # `next_step` after an attempt that ended with OK
    cdef bint _goes_on(self, OutboundCall call, object ended) except -1
    cdef int _attempt(self, OutboundCall call) except -1
    cdef int _release(self, OutboundCall call, object success) except -1
    cdef int _end(self, OutboundCall call, bint ok) except -1
    cdef int _trace(self, OutboundCall call) except -1
    cdef int64_t _deadline(self, OutboundCall call) except -2
    cdef int _random_digits(self, char *digits, Py_ssize_t size) except -1
