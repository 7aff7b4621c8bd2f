# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""Slow start, as Envoy has it: weight * max(min_weight_percent / 100, (age / window) ^ (1 / aggression)).

The ramp goes up in STEPS steps; each is made by the first pick or release after its time has come.
"""

from libc.math cimport pow

from tai_grpc._ext.primitives.atomics cimport cas, clear_bits, load, load_seq, set_bits, store
from tai_grpc._ext.primitives.endpoint cimport (
    DRAINING, FULL, LEAST_LOADED, NEVER, RAMPING, endpoint_at, places,
)
from tai_grpc._ext.primitives.tournament cimport replay

cdef int64_t STEPS = 64


cdef inline void _lower_to(int64_t *word, int64_t value) noexcept nogil:
    cdef int64_t seen = load(word)
    while seen > value:
        if cas(word, &seen, value):
            return


cdef inline void _set(BalancerState *balancer, EndpointState *endpoint, int64_t ramp) noexcept nogil:
    store(&endpoint.ramp, ramp)
    if balancer.strategy == LEAST_LOADED:
        replay(balancer, endpoint.place)


cdef void ramp_begin(BalancerState *balancer, EndpointState *endpoint, int64_t now_ns) noexcept nogil:
    """Begin the slow start of an endpoint, if the balancer has one."""
    if balancer.ramp_ns == 0:
        return
    store(&endpoint.ramp_began_ns, now_ns)
    store(&endpoint.credit, 0)
    set_bits(&endpoint.status, RAMPING)
    _set(balancer, endpoint, max(<int64_t>(balancer.min_ramp * FULL), <int64_t>1))
    # After the status: a step made meanwhile sees the endpoint, or this sets the time of the next one.
    _lower_to(&balancer.next_ramp_ns, now_ns + balancer.ramp_ns // STEPS)


cdef void ramp_step(BalancerState *balancer, int64_t now_ns) noexcept nogil:
    """Take the next step, if it is time and nobody else does."""
    cdef int64_t place, age_ns
    cdef double part
    cdef bint more = False
    cdef EndpointState *endpoint
    cdef int64_t due = load(&balancer.next_ramp_ns)
    if now_ns < due or not cas(&balancer.next_ramp_ns, &due, NEVER):
        return
    for place in range(places(balancer)):
        endpoint = endpoint_at(balancer, place)
        if load_seq(&endpoint.status) & (DRAINING | RAMPING) != RAMPING:
            continue
        age_ns = now_ns - load(&endpoint.ramp_began_ns)
        if age_ns >= balancer.ramp_ns:
            clear_bits(&endpoint.status, RAMPING)
            _set(balancer, endpoint, FULL)
            continue
        more = True
        part = pow(<double>max(age_ns, <int64_t>0) / <double>balancer.ramp_ns, balancer.ramp_exponent)
        _set(balancer, endpoint, max(<int64_t>(max(part, balancer.min_ramp) * FULL), <int64_t>1))
    if more:
        _lower_to(&balancer.next_ramp_ns, now_ns + balancer.ramp_ns // STEPS)
