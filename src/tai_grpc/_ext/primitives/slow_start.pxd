"""Slow start: the share of a new or readmitted endpoint goes up over a window."""

from libc.stdint cimport int64_t

from tai_grpc._ext.primitives.endpoint cimport BalancerState, EndpointState

cdef void ramp_begin(BalancerState *balancer, EndpointState *endpoint, int64_t now_ns) noexcept nogil
cdef void ramp_step(BalancerState *balancer, int64_t now_ns) noexcept nogil
