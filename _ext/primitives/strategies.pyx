# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""How the endpoint of the next call is picked, and what its release tells of it.

A draw turns a ticket, a number below the sum of the weights, into the endpoint that has it: through a guide
table (Chen and Asau 1974), so at a cost that does not depend on how many endpoints there are. Tickets are
random, or in turn: the n-th is n * stride modulo the sum, with a stride coprime to it, so every endpoint gets
exactly its weight in each round, and near its golden section, so that its turns lie spread over the round.

An endpoint that must be passed over uses up its turn. In slow start it uses its part of its turns. Who has
drawn in vain too often asks every endpoint.
"""

from libc.math cimport exp
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from tai_grpc._ext.primitives.atomics cimport (
    add, add_seq, cas, cas_seq, load, load_seq, load_u64, store,
)
from tai_grpc._ext.primitives.breaker cimport (
    FAILURE, IGNORED, REFUSED, SUCCESS, acquire, settle, settle_timed, would_admit,
)
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.endpoint cimport (
    DRAINING, EJECTED, FULL, HELD, LEAST_LOADED, NEVER, PARKED, PEAK_EWMA, RAMPING, RANDOM, ROUND_ROBIN,
    SHARED, USED,
    breaker_of, count, drawn, endpoint_at, in_flight, places, random_number, scaled, takes_part,
)
from tai_grpc._ext.primitives.outlier cimport judge_panic, sweep
from tai_grpc._ext.primitives.slow_start cimport ramp_step
from tai_grpc._ext.primitives.tournament cimport least_loaded, park, replay, unpark

cdef extern from *:
    """
    /* So that each lane has code of its own, in which the lane is no question. */
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline))
    /* Without a branch: who is the better of two drawn at random is a coin flip, and not to be guessed. */
    #define tai_exchange_if(one, other, swap) do { \
        uintptr_t difference = ((uintptr_t)*(one) ^ (uintptr_t)*(other)) & -(uintptr_t)(swap); \
        *(one) = (void *)((uintptr_t)*(one) ^ difference); \
        *(other) = (void *)((uintptr_t)*(other) ^ difference); \
    } while (0)
    """
    void exchange "tai_exchange_if" (EndpointState **one, EndpointState **other, bint swap) noexcept nogil

cdef enum:
    DRAWS = 16

cdef extern from *:
    const double TAU_NS "10e9"


cdef inline double _to_double(int64_t bits) noexcept nogil:
    cdef double value
    memcpy(&value, &bits, sizeof(value))
    return value


cdef inline int64_t _to_bits(double value) noexcept nogil:
    cdef int64_t bits
    memcpy(&bits, &value, sizeof(bits))
    return bits


cdef void _upkeep(BalancerState *balancer) noexcept nogil:
    """Do what is due: a sweep, a step of the slow start."""
    cdef int64_t due = min(load(&balancer.next_sweep_ns), load(&balancer.next_ramp_ns))
    cdef int64_t now_ns
    if due != NEVER:
        now_ns = monotonic_ns()
        if now_ns >= due:
            sweep(balancer, now_ns)
            ramp_step(balancer, now_ns)


# --- Taking an endpoint ---------------------------------------------------------------------------------


cdef inline bint _take(
    BalancerState *balancer, EndpointState *endpoint, Pick *pick, int lane
) noexcept nogil:
    """Count a call as started, with a permit of the breaker; False when that refuses, or it is drained."""
    if balancer.breakers:
        pick.permit = acquire(breaker_of(endpoint), &pick.change)
        if pick.permit == REFUSED:
            return False
    # Counted first, looked at after: whoever drains it sees this call in flight, or is seen here. Who drains
    # holds the GIL, so no call of that lane comes between.
    count(&endpoint.started[lane], lane, 1)
    if load_seq(&endpoint.status) & (USED | DRAINING) != USED:
        count(&endpoint.started[lane], lane, -1)
        if balancer.breakers:
            settle(breaker_of(endpoint), pick.permit, IGNORED)
            pick.change = 0
        return False
    pick.endpoint = endpoint
    if pick.change != 0 and load(&balancer.ejected) != 0:
        judge_panic(balancer)
    return True


cdef inline bint _may_be_asked(
    BalancerState *balancer, EndpointState *endpoint, int64_t refused
) noexcept nogil:
    return takes_part(endpoint, refused) and (not balancer.breakers or would_admit(breaker_of(endpoint)))


cdef void _ask_all(BalancerState *balancer, Pick *pick, int lane) noexcept nogil:
    """Take one of those that may be picked now, at random by weight; if there is none, of the ejected too."""
    cdef int64_t place, weight, ticket
    cdef int64_t refused = load(&balancer.passed_over) & ~PARKED
    cdef EndpointState *endpoint
    while True:
        weight = 0
        for place in range(places(balancer)):
            endpoint = endpoint_at(balancer, place)
            if _may_be_asked(balancer, endpoint, refused):
                weight += load(&endpoint.weight)
        if weight == 0:
            if not refused & EJECTED:
                return
            refused &= ~EJECTED
            continue
        ticket = <int64_t>scaled(random_number(balancer, lane), <uint64_t>weight)
        for place in range(places(balancer)):
            endpoint = endpoint_at(balancer, place)
            if _may_be_asked(balancer, endpoint, refused):
                ticket -= load(&endpoint.weight)
                if ticket < 0:
                    break
        # Others pick meanwhile, so who was there before may be gone by now: then all are asked again.
        if ticket < 0 and _take(balancer, endpoint, pick, lane):
            return


# --- Draws ----------------------------------------------------------------------------------------------


cdef inline int64_t _position(TableState *table, int64_t ticket) noexcept nogil:
    """Who has this ticket, 0 to `total` - 1."""
    cdef int64_t low, high, middle
    if table.ends is NULL:
        return ticket
    low = table.guide[ticket >> table.guide_shift]
    high = table.guide[(ticket >> table.guide_shift) + 1]
    while low < high:
        middle = (low + high) >> 1
        if table.ends[middle] <= ticket:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline bint _has_its_turn(BalancerState *balancer, EndpointState *endpoint) noexcept nogil:
    """Whether an endpoint that was drawn may be picked: not when it is ejected, nor always in slow start."""
    cdef int64_t status = load(&endpoint.status)
    cdef int64_t ramp
    if status == USED:
        return True
    if status & (USED | load(&balancer.passed_over)) != USED:
        return False
    if not status & RAMPING:
        return True
    ramp = load(&endpoint.ramp)
    return (add(&endpoint.credit, ramp) & (FULL - 1)) + ramp >= FULL


cdef inline bint _round_robin(
    BalancerState *balancer, TableState *table, Pick *pick, int lane
) noexcept nogil:
    cdef int64_t ticket
    cdef EndpointState *endpoint
    for _ in range(table.count):
        ticket = count(&balancer.picks[lane].turn, lane, 1) % table.total
        if table.ends is not NULL:
            ticket = ticket * table.stride % table.total
        endpoint = table.endpoints[_position(table, ticket)]
        if _has_its_turn(balancer, endpoint) and _take(balancer, endpoint, pick, lane):
            return True
    return False


cdef inline bint _random(
    BalancerState *balancer, TableState *table, Pick *pick, int lane
) noexcept nogil:
    cdef EndpointState *endpoint
    for _ in range(DRAWS):
        endpoint = table.endpoints[
            _position(table, <int64_t>scaled(random_number(balancer, lane), <uint64_t>table.total))
        ]
        if _has_its_turn(balancer, endpoint) and _take(balancer, endpoint, pick, lane):
            return True
    return False


cdef inline int64_t _candidate(
    BalancerState *balancer, TableState *table, int64_t other, uint64_t *number, int lane
) noexcept nogil:
    """The position of one that may be picked, not `other` (-1: nobody), drawn by weight; -1: none found.

    The first draw is made of the random `number`, which may be used for one more.
    """
    cdef int64_t begin = table.total
    cdef int64_t size = 0
    cdef int64_t ticket, position
    cdef EndpointState *endpoint
    if other >= 0:
        begin = other
        size = 1
        if table.ends is not NULL:
            begin = table.ends[other - 1] if other > 0 else 0
            size = table.ends[other] - begin
        if size == table.total:
            return -1
    for _ in range(DRAWS):
        ticket = <int64_t>drawn(number, <uint64_t>(table.total - size))
        position = _position(table, ticket + size if ticket >= begin else ticket)
        endpoint = table.endpoints[position]
        if _has_its_turn(balancer, endpoint) and (
            not balancer.breakers or would_admit(breaker_of(endpoint))
        ):
            return position
        number[0] = random_number(balancer, lane)
    return -1


cdef inline bint _less_loaded(EndpointState *one, EndpointState *other) noexcept nogil:
    return (in_flight(one) + 1) * load(&other.weight) < (in_flight(other) + 1) * load(&one.weight)


cdef inline double _exp(double x) noexcept nogil:
    """e^x: near 0, as it is where samples are taken all the time, by a line that errs by under 10^-6."""
    return 1.0 + x if -1e-3 < x < 1e-3 else exp(x)


cdef inline bint _cheaper(EndpointState *one, EndpointState *other) noexcept nogil:
    """Whether `one` costs less: cost * (in flight + 1) / weight.

    Costs decay alike as time goes by, so only the time between the two samples matters, not what time it is.
    """
    cdef int64_t one_calls = in_flight(one) + 1
    cdef int64_t other_calls = in_flight(other) + 1
    cdef int64_t one_weight = load(&one.weight)
    cdef int64_t other_weight = load(&other.weight)
    cdef int64_t one_bits = load(&one.cost)
    cdef int64_t other_bits = load(&other.cost)
    cdef bint one_is_new, other_is_new
    cdef double one_cost, other_cost, apart
    if one_bits == 0 or other_bits == 0:
        # Without a sample: to be tried while it is idle, and else only if the other is that as well.
        one_is_new = one_bits == 0 and one_calls == 1
        other_is_new = other_bits == 0 and other_calls == 1
        if one_is_new != other_is_new:
            return one_is_new
        if (one_bits == 0) != (other_bits == 0):
            return one_bits != 0
        return one_calls * other_weight < other_calls * one_weight
    apart = <double>(load(&one.cost_ns) - load(&other.cost_ns)) * (1.0 / TAU_NS)
    one_cost = _to_double(one_bits) * <double>(one_calls * other_weight)
    other_cost = _to_double(other_bits) * <double>(other_calls * one_weight)
    return one_cost * _exp(apart) < other_cost


cdef inline bint _two_choices(
    BalancerState *balancer, TableState *table, Pick *pick, int lane
) noexcept nogil:
    cdef uint64_t number = random_number(balancer, lane)
    cdef int64_t first = _candidate(balancer, table, -1, &number, lane)
    cdef int64_t second
    cdef EndpointState *one
    cdef EndpointState *other
    cdef bint swap
    if first < 0:
        return False
    one = table.endpoints[first]
    second = _candidate(balancer, table, first, &number, lane)
    if second < 0:
        return _take(balancer, one, pick, lane)
    other = table.endpoints[second]
    swap = _cheaper(other, one) if balancer.strategy == PEAK_EWMA else _less_loaded(other, one)
    exchange(&one, &other, swap)
    return _take(balancer, one, pick, lane) or _take(balancer, other, pick, lane)


# --- The least loaded -----------------------------------------------------------------------------------


cdef inline bint _least_loaded(BalancerState *balancer, Pick *pick, int lane) noexcept nogil:
    cdef EndpointState *endpoint
    cdef uint64_t word = 0
    cdef int64_t turn
    if load(&balancer.parked) != 0:
        unpark(balancer, monotonic_ns())
    while True:
        endpoint = least_loaded(balancer)
        if endpoint is NULL:
            return False
        if balancer.breakers:
            word = load_u64(&breaker_of(endpoint).word)
        if _take(balancer, endpoint, pick, lane):
            # Both lanes count on: two picks at the same moment may get one number, and are alike.
            turn = count(&balancer.picks[lane].turn, lane, 1) + load(&balancer.picks[1 - lane].turn)
            store(&endpoint.turn, turn + 1)
            replay(balancer, endpoint.place)
            return True
        if takes_part(endpoint, DRAINING):
            park(balancer, endpoint, word, monotonic_ns())
        else:
            replay(balancer, endpoint.place)


# --- The two that others call ---------------------------------------------------------------------------


cdef inline void _pick(BalancerState *balancer, TableState *table, Pick *pick, int lane) noexcept nogil:
    cdef bint picked
    pick.endpoint = NULL
    pick.permit = 0
    pick.change = 0
    if balancer.timed:
        _upkeep(balancer)
    if balancer.strategy == ROUND_ROBIN:
        picked = _round_robin(balancer, table, pick, lane)
    elif balancer.strategy == LEAST_LOADED:
        picked = _least_loaded(balancer, pick, lane)
    elif balancer.strategy == RANDOM:
        picked = _random(balancer, table, pick, lane)
    else:
        picked = _two_choices(balancer, table, pick, lane)
    if not picked:
        _ask_all(balancer, pick, lane)
        if pick.endpoint is not NULL and balancer.strategy == LEAST_LOADED:
            replay(balancer, pick.endpoint.place)


cdef void balancer_pick(BalancerState *balancer, TableState *table, Pick *pick) noexcept nogil:
    """Pick an endpoint and count its call as started.

    `table` is the balancer's newest, or an older one that the caller keeps: what that has not heard of is not
    drawn, what is drained since is passed over. Compare `version`s to know when to ask for another one.
    """
    _pick(balancer, table, pick, SHARED)


cdef void balancer_pick_held(BalancerState *balancer, TableState *table, Pick *pick) noexcept:
    """As `balancer_pick`, for who holds the GIL: faster, with turns and random numbers of its own."""
    _pick(balancer, table, pick, HELD)


cdef void _sample(EndpointState *endpoint, int64_t latency_us, int outcome) noexcept nogil:
    """Peak EWMA (Finagle): up at once to a slower sample, else down by w = e^(-dt / 10 s).

    A failed call, which may well be fast, never makes an endpoint cheaper.
    """
    cdef int64_t now_ns = monotonic_ns()
    cdef int64_t last_ns = load_seq(&endpoint.cost_ns)
    cdef int64_t bits = load_seq(&endpoint.cost)
    cdef double sample = max(<double>latency_us, 1.0)
    cdef double cost, weight
    # Who moves the time on has the time between to account for; nobody else has it too.
    while last_ns < now_ns:
        if cas_seq(&endpoint.cost_ns, &last_ns, now_ns):
            break
    weight = exp(-<double>max(now_ns - last_ns, <int64_t>0) / TAU_NS)
    while True:
        cost = _to_double(bits)
        if sample < cost:
            cost = cost * weight if outcome == FAILURE else sample * (1.0 - weight) + cost * weight
            cost = max(cost, sample)
        else:
            cost = sample
        if cas_seq(&endpoint.cost, &bits, _to_bits(cost)):
            return


cdef inline int _release(
    BalancerState *balancer,
    EndpointState *endpoint,
    int64_t permit,
    int outcome,
    int64_t latency_us,
    int lane,
) noexcept nogil:
    cdef int64_t old, sample
    cdef int change = 0
    if outcome == SUCCESS:
        sample = max(latency_us << 8, <int64_t>1)
        old = load(&endpoint.latency_ewma)
        while not cas(
            &endpoint.latency_ewma, &old, sample if old == 0 else max(old + ((sample - old) >> 3), <int64_t>1)
        ):
            pass
    if outcome != IGNORED:
        if balancer.strategy == PEAK_EWMA:
            _sample(endpoint, latency_us, outcome)
        if balancer.outliers:
            add(&endpoint.successes if outcome == SUCCESS else &endpoint.errors, 1)
    if balancer.breakers:
        change = settle_timed(breaker_of(endpoint), permit, outcome, latency_us * 1000)
    # In this order, and read in the other one, failures and calls in flight are never more than were picked.
    count(&endpoint.finished[lane], lane, 1)
    if outcome == FAILURE:
        add_seq(&endpoint.failures, 1)
    if balancer.strategy == LEAST_LOADED:
        replay(balancer, endpoint.place)
    if change != 0 and load(&balancer.ejected) != 0:
        judge_panic(balancer)
    if balancer.timed:
        _upkeep(balancer)
    return change


cdef int balancer_release(
    BalancerState *balancer, EndpointState *endpoint, int64_t permit, int outcome, int64_t latency_us
) noexcept nogil:
    """Count a call as finished, tell its breaker, and return the transition that this made, or 0."""
    return _release(balancer, endpoint, permit, outcome, latency_us, SHARED)


cdef int balancer_release_held(
    BalancerState *balancer, EndpointState *endpoint, int64_t permit, int outcome, int64_t latency_us
) noexcept:
    """As `balancer_release`, for who holds the GIL, however the call was picked."""
    return _release(balancer, endpoint, permit, outcome, latency_us, HELD)
