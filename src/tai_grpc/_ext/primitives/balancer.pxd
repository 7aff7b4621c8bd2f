"""The balancer's Python objects. Code without the GIL takes a Table of `LoadBalancer.newest`, keeps it, and
calls strategies.balancer_pick and balancer_release with the `state` of both.
"""

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t

from tai_grpc._ext.primitives.breaker cimport BreakerSettings
from tai_grpc._ext.primitives.endpoint cimport BalancerState, EndpointState
from tai_grpc._ext.primitives.membership cimport Ground, Member, Place, Table, place_in


cdef class Endpoint:
    """One pick: goes back with `LoadBalancer.release`, or by itself when it is dropped."""
    cdef EndpointState *state
    # A reference to its Place, which keeps the state's memory; NULL: it was not picked. (As an object, it
    # would begin as None, and cost a pick two changes of a count that is every thread's.)
    cdef PyObject *place
    cdef int64_t permit
    # 1 from the pick to the release.
    cdef int64_t taken


cdef class LoadBalancer:
    cdef BalancerState *state
    cdef Ground ground
    cdef Table table
    cdef object breaker_config
    cdef BreakerSettings breaker_settings
    cdef object strategy_

    cdef Table newest(self)
    cdef Member member(self, EndpointState *endpoint)
    cdef int _announce(self, EndpointState *endpoint, int change) except -1
    cdef Member _settle(self, str address, int64_t weight)
    cdef int _open(self, EndpointState *endpoint) except -1
    cdef int _changed(self, EndpointState *endpoint) except -1
    cdef bint _swap(self, Table old, Table new)
    cdef Member _find(self, Table table, object address)
    cdef int _drain(self, Member member) except -1
