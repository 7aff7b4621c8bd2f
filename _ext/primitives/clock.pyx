# cython: language_level=3, freethreading_compatible=True
"""The one clock of the primitives: monotonic, in nanoseconds, never the wall clock."""

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec


cdef int64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1_000_000_000 + now.tv_nsec
