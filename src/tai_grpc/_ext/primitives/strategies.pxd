"""A balancer for code that runs without the GIL: `balancer_pick` and `balancer_release`.

Who holds the GIL has the same two, faster: `balancer_pick_held` and `balancer_release_held`.
"""

from libc.stdint cimport int64_t

from tai_grpc._ext.primitives.endpoint cimport BalancerState, EndpointState

cdef struct TableState:
    # Whom a draw may meet. Made with each change of the endpoints or their weights, then only read.
    EndpointState **endpoints
    int64_t count
    # The sum of the weights, divided by their greatest common divisor as all here are.
    int64_t total
    # NULL if all weights are equal. ends[i]: the sum of the weights up to and with the i-th endpoint.
    int64_t *ends
    # guide[n]: the first endpoint whose end is above n << guide_shift.
    int64_t *guide
    int64_t guide_shift
    # Coprime to `total`, and near its golden section.
    int64_t stride
    # The balancer's version that it belongs to.
    int64_t version


cdef struct Pick:
    # NULL: all breakers refuse.
    EndpointState *endpoint
    int64_t permit
    # The breaker's transition that it made, or 0.
    int change


cdef void balancer_pick(BalancerState *balancer, TableState *table, Pick *pick) noexcept nogil
cdef void balancer_pick_held(BalancerState *balancer, TableState *table, Pick *pick) noexcept
cdef int balancer_release(
    BalancerState *balancer, EndpointState *endpoint, int64_t permit, int outcome, int64_t latency_us
) noexcept nogil
cdef int balancer_release_held(
    BalancerState *balancer, EndpointState *endpoint, int64_t permit, int outcome, int64_t latency_us
) noexcept
