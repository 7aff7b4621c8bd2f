"""The waits between attempts for code that runs without the GIL: draw between `backoff_range`, then ask
`backoff_wait`.
"""

from libc.stdint cimport int64_t

cdef enum Spread:
    NONE
    A6
    FULL
    EQUAL
    DECORRELATED


cdef struct BackoffState:
    # Seconds.
    double initial
    double longest
    double multiplier
    int64_t jitter


cdef BackoffState backoff_state(object config) except *
cdef void backoff_range(
    const BackoffState *backoff, int64_t retry, double previous, double *low, double *high
) noexcept nogil
cdef double backoff_wait(const BackoffState *backoff, int64_t retry, double drawn) noexcept nogil


cdef class Backoff:
    cdef BackoffState state
    cdef object uniform
    cdef double previous
    cdef int64_t made
