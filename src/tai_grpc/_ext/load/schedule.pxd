"""When calls of an open loop are due. See schedule.pyx."""

from libc.stdint cimport int64_t, uint64_t


# Of a part of a schedule: the rate goes evenly from `rate` on, by `slope` a second, calls a second.
cdef struct Segment:
    double begin_s
    double seconds  # infinite: it goes on for ever
    double rate
    double slope
    double before  # calls due in the segments before
    double calls  # due in this one


cdef struct Schedule:
    Segment *segments
    size_t count
    size_t current
    bint poisson
    uint64_t random[4]
    double place  # of the next arrival: how many calls are due before it
    double step
    int64_t due_ns  # when it is due, from the beginning; -1: none is any more


# `segments`: (seconds or None, rate at the start, rate at the end). Raises ConfigError, MemoryError.
cdef int schedule_init(
    Schedule *schedule, object segments, bint poisson, uint64_t seed, double first, double step
) except -1
cdef void schedule_free(Schedule *schedule) noexcept nogil
cdef void schedule_advance(Schedule *schedule) noexcept nogil  # to the next arrival
# Go on to the first arrival that is not due before `end_ns`; returns how many were left behind.
cdef int64_t schedule_skip(Schedule *schedule, int64_t end_ns) noexcept nogil
