"""Limits of concurrency for code that runs without the GIL: enter before the call, leave after it."""

from libc.stdint cimport int64_t

cdef enum:
    # What leaves without saying how long it took.
    NO_SAMPLE = -1

cdef struct BulkheadState:
    # Who is inside: all that changes.
    int64_t in_flight
    # The configuration: written before the bulkhead is shared, then only read.
    int64_t max_concurrent

cdef struct AdaptiveState:
    int64_t in_flight
    # The limit, in 2^-32.
    int64_t limit
    # The long-term latency: 60 bits in 1/256 ns | the number of samples, up to the warm-up's (4 bits).
    int64_t long_latency
    # The configuration: written before the limiter is shared, then only read. The limits in 2^-32.
    int64_t min_limit
    int64_t max_limit
    double smoothing
    double queue_size
    double tolerance
    double long_weight


cdef void bulkhead_init(BulkheadState *bulkhead, int64_t max_concurrent) noexcept nogil
cdef bint bulkhead_enter(BulkheadState *bulkhead) noexcept nogil
cdef bint bulkhead_leave(BulkheadState *bulkhead) noexcept nogil

cdef void adaptive_init(
    AdaptiveState *limiter,
    int64_t initial_limit,
    int64_t min_limit,
    int64_t max_limit,
    double smoothing,
    int64_t queue_size,
    double tolerance,
    int64_t long_window,
) noexcept nogil
cdef bint adaptive_enter(AdaptiveState *limiter) noexcept nogil
cdef bint adaptive_leave(AdaptiveState *limiter, int64_t latency_ns) noexcept nogil


cdef class Bulkhead:
    cdef BulkheadState *state_
    # What keeps the state's memory.
    cdef object owner


cdef class AdaptiveLimiter:
    cdef AdaptiveState *state_
    # What keeps the state's memory.
    cdef object owner

    cdef int finish(self, int64_t latency_ns) except -1
