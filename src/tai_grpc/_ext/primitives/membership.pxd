"""Who is among the endpoints of a balancer: see membership.pyx."""

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.breaker cimport CircuitBreaker
from tai_grpc._ext.primitives.endpoint cimport BalancerState, EndpointState
from tai_grpc._ext.primitives.strategies cimport TableState


cdef class Ground:
    """All memory of a balancer: its state, and the chunks of its places."""
    cdef BalancerState *state
    cdef Memory memory
    cdef list chunks
    # Where the search for a free place goes on.
    cdef int64_t next_place

    cdef int grow(self) except -1
    cdef int64_t reserve(self) except -1


cdef class Place:
    """One endpoint's place on the ground: its own until nothing refers to this any more."""
    cdef Ground ground
    cdef EndpointState *state
    cdef str address
    cdef int64_t index


cdef class Member:
    """An endpoint that is not removed, and its breaker (None without breakers)."""
    cdef Place place
    cdef CircuitBreaker breaker


cdef class Table:
    """The endpoints at one time. Nothing in it changes; the balancer makes a new one instead."""
    cdef TableState state
    cdef Memory memory
    # In the order in which they were added.
    cdef tuple members
    # By the number of its place: a Member or None; and of those its Place or NULL, of `room` places.
    cdef tuple by_place
    cdef PyObject **places
    cdef int64_t room
    cdef dict by_address

    @staticmethod
    cdef Table of(Ground ground, list members, int64_t version)


cdef inline PyObject *place_in(Table table, EndpointState *endpoint) noexcept:
    """The Place of an endpoint, borrowed from the table; NULL when that does not list it."""
    return table.places[endpoint.place] if endpoint.place < table.room else NULL
