"""The counter for code that runs without the GIL."""

from libc.stdint cimport int64_t

cdef enum:
    STRIPES = 8
    IN_A_STRIPE = 8


cdef struct Stripe:
    # On a cache line of its own, or of counters that the same threads add to: see `Counter.together`.
    int64_t value
    int64_t others[IN_A_STRIPE - 1]


cdef struct CounterState:
    Stripe stripes[STRIPES]


cdef bint counter_add(CounterState *counter, int64_t n) noexcept nogil
cdef int64_t counter_value(CounterState *counter) noexcept nogil


cdef class Counter:
    cdef CounterState *state_
    # What keeps the state's memory.
    cdef object owner
