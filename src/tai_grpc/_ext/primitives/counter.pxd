"""The counter for code that runs without the GIL."""

from libc.stdint cimport int64_t

cdef enum:
    STRIPES = 8


cdef struct Stripe:
    # On a cache line of its own.
    int64_t value
    int64_t reserved[7]


cdef struct CounterState:
    Stripe stripes[STRIPES]


cdef bint counter_add(CounterState *counter, int64_t n) noexcept nogil
cdef int64_t counter_value(CounterState *counter) noexcept nogil


cdef class Counter:
    cdef CounterState *state_
    # What keeps the state's memory.
    cdef object owner
