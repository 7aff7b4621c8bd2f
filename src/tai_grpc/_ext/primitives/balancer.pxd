"""A load balancer: `pick` and `release` run without the GIL on the table of endpoints."""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.breaker cimport BreakerState, CircuitBreaker

cdef enum Strategy:
    ROUND_ROBIN
    LEAST_LOADED
    RANDOM


cdef struct EndpointState:
    # Used only when the balancer has breakers.
    BreakerState breaker
    # Calls in flight are `started - finished`; load `finished` first, so that they are never below 0.
    int64_t started
    int64_t finished
    int64_t failures
    # Microseconds in 1/256; 0: no answer yet.
    int64_t latency_ewma
    # The balancer that it belongs to.
    int64_t balancer
    int64_t reserved[3]


cdef struct BalancerState:
    # One call of `pick` each, and what it made of it.
    uint64_t turn
    uint64_t reserved[7]
    # On a cache line of its own.
    uint64_t random


cdef int64_t balancer_pick(
    BalancerState *balancer,
    EndpointState **table,
    int64_t count,
    Strategy strategy,
    bint breakers,
    int64_t *permit,
    int *change,
) noexcept nogil
cdef void balancer_release(EndpointState *endpoint, int outcome, int64_t latency_us) noexcept nogil


cdef class Endpoint:
    """One pick: goes back with `LoadBalancer.release`, or by itself when it is dropped."""
    cdef EndpointState *state
    # What keeps the state's memory.
    cdef Memory memory
    cdef int64_t permit
    # 1 from the pick to the release.
    cdef int64_t taken
    cdef readonly str address
    cdef readonly int64_t index


cdef class Member:
    cdef EndpointState *state
    cdef Memory memory
    cdef str address
    cdef CircuitBreaker breaker


cdef class LoadBalancer:
    cdef BalancerState *state_
    cdef EndpointState **table
    cdef int64_t count
    cdef Strategy strategy_
    cdef bint breakers
    cdef int64_t id
    cdef tuple members
    cdef Memory memory
    cdef Memory table_memory

    cdef Member member(self, int64_t index)
