# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""Takes out endpoints that do much worse than the others: gRFC A50, "Outlier Detection Support".

There is no timer: the first pick or release after an interval is over makes the sweep, which looks at every
place twice or thrice. As A50 has it, but for two points: an ejection never exceeds `max_ejection_percent`,
except that one endpoint may always go (A50 stops only once the percentage is reached), and an endpoint that
is ejected already is not judged.

Panic: while some endpoints are ejected and fewer than half of all are usable (not ejected, and their breaker
would admit a call), ejections are ignored: too few would carry the load of all. Breakers are not: one that
refuses goes on to refuse. It is judged anew at each sweep, each change of a breaker that a pick or a release
makes, and each change of the endpoints.
"""

from libc.math cimport sqrt

from tai_grpc._ext.primitives.atomics cimport (
    add, add_seq, cas, cas_seq, clear_bits, exchange, load, load_seq, store,
)
from tai_grpc._ext.primitives.breaker cimport would_admit
from tai_grpc._ext.primitives.endpoint cimport (
    DRAINING, EJECTED, LEAST_LOADED, PARKED, USED, breaker_of, endpoint_at, places, takes_part,
)
from tai_grpc._ext.primitives.slow_start cimport ramp_begin
from tai_grpc._ext.primitives.tournament cimport replay, replay_all


cdef inline void _replay(BalancerState *balancer, EndpointState *endpoint) noexcept nogil:
    if balancer.strategy == LEAST_LOADED:
        replay(balancer, endpoint.place)


cdef bint _eject(BalancerState *balancer, EndpointState *endpoint, int64_t now_ns) noexcept nogil:
    """Eject an endpoint; False when as many as may be are ejected already."""
    cdef int64_t most = max(load(&balancer.active) * balancer.max_ejection_percent // 100, <int64_t>1)
    cdef int64_t ejected = load(&balancer.ejected)
    cdef int64_t status
    while True:
        if ejected >= most:
            return False
        if cas(&balancer.ejected, &ejected, ejected + 1):
            break
    status = load_seq(&endpoint.status)
    while status & (USED | DRAINING | EJECTED) == USED:
        if cas_seq(&endpoint.status, &status, status | EJECTED):
            store(&endpoint.ejected_ns, now_ns)
            add(&endpoint.ejections, 1)
            _replay(balancer, endpoint)
            return True
    add_seq(&balancer.ejected, -1)
    return True


cdef void readmit(BalancerState *balancer, EndpointState *endpoint) noexcept nogil:
    """End the ejection of an endpoint, if it is ejected."""
    if clear_bits(&endpoint.status, EJECTED) & EJECTED:
        add_seq(&balancer.ejected, -1)
        _replay(balancer, endpoint)


cdef inline int64_t _judged(EndpointState *endpoint) noexcept nogil:
    """How many of its calls are judged."""
    return load(&endpoint.judged)


cdef inline double _success_rate(EndpointState *endpoint) noexcept nogil:
    return <double>load(&endpoint.judged_well) / <double>max(_judged(endpoint), <int64_t>1)


cdef void _by_success_rate(BalancerState *balancer, int64_t now_ns) noexcept nogil:
    cdef int64_t place
    cdef int64_t hosts = 0
    cdef double total = 0.0
    cdef double squares = 0.0
    cdef double apart, mean, threshold
    cdef EndpointState *endpoint
    for place in range(places(balancer)):
        endpoint = endpoint_at(balancer, place)
        if takes_part(endpoint, DRAINING | EJECTED) and _judged(endpoint) >= balancer.success_rate_volume:
            hosts += 1
            total += _success_rate(endpoint)
    if hosts < balancer.success_rate_hosts:
        return
    mean = total / hosts
    for place in range(places(balancer)):
        endpoint = endpoint_at(balancer, place)
        if takes_part(endpoint, DRAINING | EJECTED) and _judged(endpoint) >= balancer.success_rate_volume:
            apart = _success_rate(endpoint) - mean
            squares += apart * apart
    threshold = mean - balancer.stdev_factor * sqrt(squares / hosts)
    for place in range(places(balancer)):
        endpoint = endpoint_at(balancer, place)
        if (
            takes_part(endpoint, DRAINING | EJECTED)
            and _judged(endpoint) >= balancer.success_rate_volume
            and _success_rate(endpoint) < threshold
            and not _eject(balancer, endpoint, now_ns)
        ):
            return


cdef void _by_failure_percentage(BalancerState *balancer, int64_t now_ns) noexcept nogil:
    cdef int64_t place
    cdef int64_t hosts = 0
    cdef EndpointState *endpoint
    for place in range(places(balancer)):
        endpoint = endpoint_at(balancer, place)
        # Those that the success rate has just ejected count as hosts.
        if takes_part(endpoint, DRAINING) and _judged(endpoint) >= balancer.failure_percentage_volume:
            hosts += 1
    if hosts < balancer.failure_percentage_hosts:
        return
    for place in range(places(balancer)):
        endpoint = endpoint_at(balancer, place)
        if (
            takes_part(endpoint, DRAINING | EJECTED)
            and _judged(endpoint) >= balancer.failure_percentage_volume
            and 1.0 - _success_rate(endpoint) > balancer.failure_threshold
            and not _eject(balancer, endpoint, now_ns)
        ):
            return


cdef void sweep(BalancerState *balancer, int64_t now_ns) noexcept nogil:
    """Judge the interval that is over, if it is and nobody else does."""
    cdef int64_t place, successes, until_ns
    cdef int64_t due = load(&balancer.next_sweep_ns)
    cdef EndpointState *endpoint
    if now_ns < due or not cas(&balancer.next_sweep_ns, &due, now_ns + balancer.interval_ns):
        return
    for place in range(places(balancer)):
        endpoint = endpoint_at(balancer, place)
        successes = exchange(&endpoint.successes, 0)
        store(&endpoint.judged, successes + exchange(&endpoint.errors, 0))
        store(&endpoint.judged_well, successes)
    if balancer.success_rate_hosts != 0:
        _by_success_rate(balancer, now_ns)
    if balancer.failure_percentage_hosts != 0:
        _by_failure_percentage(balancer, now_ns)
    for place in range(places(balancer)):
        endpoint = endpoint_at(balancer, place)
        if takes_part(endpoint, DRAINING | EJECTED):
            if load(&endpoint.ejections) > 0:
                add(&endpoint.ejections, -1)
        elif takes_part(endpoint, DRAINING):
            until_ns = load(&endpoint.ejected_ns) + min(
                balancer.base_ejection_ns * load(&endpoint.ejections),
                max(balancer.base_ejection_ns, balancer.max_ejection_ns),
            )
            if now_ns >= until_ns:
                # The ramp first, or it would be picked at its whole weight in between.
                ramp_begin(balancer, endpoint, now_ns)
                readmit(balancer, endpoint)
    judge_panic(balancer)


cdef void judge_panic(BalancerState *balancer) noexcept nogil:
    """Decide anew whether ejections count."""
    cdef int64_t place
    cdef int64_t usable = 0
    cdef int64_t passed_over = DRAINING | PARKED | EJECTED
    cdef EndpointState *endpoint
    if load(&balancer.ejected) != 0:
        for place in range(places(balancer)):
            endpoint = endpoint_at(balancer, place)
            if takes_part(endpoint, DRAINING | EJECTED) and (
                not balancer.breakers or would_admit(breaker_of(endpoint))
            ):
                usable += 1
        if 2 * usable < load(&balancer.active):
            passed_over = DRAINING | PARKED
    if load(&balancer.passed_over) != passed_over:
        exchange(&balancer.passed_over, passed_over)
        if balancer.strategy == LEAST_LOADED:
            replay_all(balancer)
