"""The token bucket for code that runs without the GIL."""

from libc.stdint cimport int64_t

cdef enum:
    # The times of a bucket have this many bits below the nanosecond.
    FRACTION_BITS = 4

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


cdef inline int64_t bucket_ahead(BucketState *bucket, int64_t arrival, int64_t n, int64_t now) noexcept nogil:
    """How far beyond the tolerance a take of `n` would be, in 1/16 ns; 0 or less: it may be made."""
    return max(arrival, now) + n * bucket.interval - now - bucket.tolerance


cdef inline int64_t whole_ns(int64_t time) noexcept nogil:
    """1/16 ns as ns, rounded up."""
    return (time + (1 << FRACTION_BITS) - 1) >> FRACTION_BITS


cdef double check_bucket(object rate, object burst) except -1


cdef class TokenBucket:
    cdef BucketState *state_
    # What keeps the state's memory.
    cdef object owner
    cdef readonly double rate

    cdef int64_t tokens(self, object n) except -1
