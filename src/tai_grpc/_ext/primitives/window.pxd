"""The recent calls of a circuit breaker, counted without locks. See window.pyx.

A window lies anywhere in the memory of its breaker: `window_bytes` of it, zeroed, then `window_init`.
"""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.primitives.clock cimport monotonic_ns

cdef enum:
    # Which window: as config.Window.
    CONSECUTIVE = 0
    COUNT = 1
    TIME = 2

    # What a call was, as bits of its slot.
    FAILED = 1
    SLOW = 2

    TICK_SHIFT = 16


cdef struct WindowState:
    # COUNT: how many calls this era has seen (see window.pyx).
    uint64_t head
    # The configuration: written before the window is shared, then only read.
    int64_t kind
    int64_t size  # in calls, or of a bucket in ticks
    int64_t minimum_calls
    double failure_rate
    double slow_rate
    int64_t words  # how many follow this struct
    int64_t reserved


cdef struct WindowCounts:
    int64_t calls
    int64_t failures
    int64_t slow


cdef inline int64_t ticks() noexcept nogil:
    """The time in units of 65.536 us."""
    return monotonic_ns() >> TICK_SHIFT


cdef int64_t window_bytes(int64_t kind, int64_t size) noexcept nogil
cdef void window_init(
    WindowState *window, int64_t kind, int64_t size, int64_t minimum_calls, double failure_rate,
    double slow_rate
) noexcept nogil
cdef bint window_record(
    WindowState *window, int64_t era, int bits, const uint64_t *word, uint64_t current
) noexcept nogil
cdef WindowCounts window_counts(WindowState *window, int64_t era) noexcept nogil
