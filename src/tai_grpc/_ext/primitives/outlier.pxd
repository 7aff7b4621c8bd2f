"""Outlier ejection after gRFC A50, and panic."""

from libc.stdint cimport int64_t

from tai_grpc._ext.primitives.endpoint cimport BalancerState, EndpointState

cdef void sweep(BalancerState *balancer, int64_t now_ns) noexcept nogil
cdef void readmit(BalancerState *balancer, EndpointState *endpoint) noexcept nogil
cdef void judge_panic(BalancerState *balancer) noexcept nogil
