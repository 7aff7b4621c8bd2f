"""The least loaded of a balancer's endpoints, kept by a tournament."""

from libc.stdint cimport int64_t, uint64_t

from tai_grpc._ext.primitives.endpoint cimport BalancerState, Chunk, EndpointState

cdef void tournament_init(BalancerState *balancer, int64_t chunk, Chunk *memory) noexcept nogil
cdef void replay(BalancerState *balancer, int64_t place) noexcept nogil
cdef void replay_all(BalancerState *balancer) noexcept nogil
cdef EndpointState *least_loaded(BalancerState *balancer) noexcept nogil
cdef void park(BalancerState *balancer, EndpointState *endpoint, uint64_t word, int64_t now_ns) noexcept nogil
cdef void unpark(BalancerState *balancer, int64_t now_ns) noexcept nogil
