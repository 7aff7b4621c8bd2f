"""The token bucket for code that runs without the GIL."""

from libc.stdint cimport int64_t

cdef struct BucketState:
    # The theoretical arrival time of GCRA, in 1/16 ns of the monotonic clock: all that changes.
    int64_t arrival
    # The configuration: written before the bucket is shared, then only read. Both times in 1/16 ns.
    int64_t interval
    int64_t tolerance
    int64_t burst


cdef void bucket_init(BucketState *bucket, double rate, int64_t burst) noexcept nogil
cdef int64_t bucket_take(BucketState *bucket, int64_t n, int64_t now_ns) noexcept nogil
cdef int64_t bucket_wait_ns(BucketState *bucket, int64_t n, int64_t now_ns) noexcept nogil


cdef class TokenBucket:
    cdef BucketState *state_
    # What keeps the state's memory.
    cdef object owner
    cdef readonly double rate

    cdef int64_t tokens(self, object n) except -1
