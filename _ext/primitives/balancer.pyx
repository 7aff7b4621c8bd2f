# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""Picks the endpoint of the next call: round-robin, least-loaded or random, past those whose breaker refuses.

Each endpoint is two cache lines of its own: its breaker, and its counts. A pick adds to `started` and a
release to `finished`; the rest is arithmetic on what is read.
"""

from collections.abc import Iterable
from math import inf
from os import urandom
from typing import NamedTuple

cimport cython
from cpython.tuple cimport PyTuple_GET_ITEM

from tai_grpc._ext.primitives.arena cimport Memory
from tai_grpc._ext.primitives.arguments cimport natural
from tai_grpc._ext.primitives.atomics cimport add, add_u64, cas, exchange, load
from tai_grpc._ext.primitives.breaker cimport (
    FAILURE, IGNORED, REFUSED, SUCCESS,
    acquire, breaker_init, breaker_view, retry_after_ns, settle, would_admit,
)

from tai_grpc._ext.primitives.breaker import CircuitState
from tai_grpc.config import CircuitBreakerConfig, LoadBalancingStrategy, check_int
from tai_grpc.errors import CircuitOpenError, ConfigError

MAX_ENDPOINTS = 65_536
"""How many endpoints one balancer takes."""

cdef int64_t MAX_LATENCY_US = 604_800_000_000
cdef dict _STRATEGIES = {
    LoadBalancingStrategy.ROUND_ROBIN: ROUND_ROBIN,
    LoadBalancingStrategy.LEAST_LOADED: LEAST_LOADED,
    LoadBalancingStrategy.RANDOM: RANDOM,
}
# How many balancers there were: each endpoint knows its own by number.
cdef int64_t _balancers = 0


class EndpointStats(NamedTuple):
    """What a balancer knows of an endpoint.

    `active_connections` are the calls in flight, `total_requests` the picks, `failures` those released with
    success=False. `latency_ewma_us` is the exponentially weighted mean latency of the successful ones, in
    microseconds (weight 1/8 to the newest, as TCP's smoothed round trip in RFC 6298); 0.0: none yet.
    """

    address: str
    active_connections: int
    total_requests: int
    failures: int
    ejected: bool
    breaker_state: CircuitState
    latency_ewma_us: float


# --- Without the GIL ------------------------------------------------------------------------------------


cdef inline int64_t _in_flight(EndpointState *endpoint) noexcept nogil:
    cdef int64_t finished = load(&endpoint.finished)
    return load(&endpoint.started) - finished


cdef inline uint64_t _random(BalancerState *balancer) noexcept nogil:
    """SplitMix64 (Steele, Lea, Flood 2014): its state is a counter, so threads never get the same number."""
    cdef uint64_t z = add_u64(&balancer.random, 0x9E3779B97F4A7C15) + <uint64_t>0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef int64_t _choose(
    BalancerState *balancer, EndpointState **table, int64_t count, bint least_loaded, bint breakers
) noexcept nogil:
    """One of the endpoints whose breaker would admit a call, and of these the least loaded: -1 when there is
    none. Among equals, each in its turn when it is about load, else at random.
    """
    cdef int64_t i, in_flight, skip
    cdef int64_t least = 0
    cdef int64_t equals = 0
    cdef int64_t chosen = -1
    for i in range(count):
        if breakers and not would_admit(&table[i].breaker):
            continue
        in_flight = _in_flight(table[i]) if least_loaded else 0
        if equals == 0 or in_flight < least:
            least = in_flight
            equals = 1
            chosen = i
        elif in_flight == least:
            equals += 1
    if equals == 0:
        return -1
    skip = <int64_t>((add_u64(&balancer.turn, 1) if least_loaded else _random(balancer)) % <uint64_t>equals)
    # Others pick meanwhile, so fewer may fit now: then the last one that does.
    for i in range(count):
        if least_loaded and _in_flight(table[i]) > least:
            continue
        if breakers and not would_admit(&table[i].breaker):
            continue
        chosen = i
        if skip == 0:
            break
        skip -= 1
    return chosen


cdef int64_t balancer_pick(
    BalancerState *balancer,
    EndpointState **table,
    int64_t count,
    Strategy strategy,
    bint breakers,
    int64_t *permit,
    int *change,
) noexcept nogil:
    """Pick one of `count` (>= 1) endpoints and count its call as started.

    Return its index, with its breaker's permit and the transition that this made; -1: all breakers refuse.
    """
    cdef int64_t index
    cdef uint64_t number
    permit[0] = 0
    change[0] = 0
    if strategy != LEAST_LOADED:
        # Round-robin: an endpoint that refuses uses up its turn, so the others keep sharing evenly.
        for _ in range(count if strategy == ROUND_ROBIN else 1):
            number = add_u64(&balancer.turn, 1) if strategy == ROUND_ROBIN else _random(balancer)
            index = <int64_t>(number % <uint64_t>count)
            if breakers:
                permit[0] = acquire(&table[index].breaker, change)
                if permit[0] == REFUSED:
                    continue
            add(&table[index].started, 1)
            return index
    # A permit that was there when it was chosen can be gone when it is taken: somebody else's call has it.
    while True:
        index = _choose(balancer, table, count, strategy == LEAST_LOADED, breakers)
        if index < 0:
            return -1
        if breakers:
            permit[0] = acquire(&table[index].breaker, change)
            if permit[0] == REFUSED:
                continue
        add(&table[index].started, 1)
        return index


cdef void balancer_release(EndpointState *endpoint, int outcome, int64_t latency_us) noexcept nogil:
    """Count a call as finished, with one of the breaker's outcomes. The breaker is settled apart."""
    cdef int64_t old, sample
    if outcome == FAILURE:
        add(&endpoint.failures, 1)
    elif outcome == SUCCESS:
        sample = max(latency_us << 8, <int64_t>1)
        old = load(&endpoint.latency_ewma)
        while not cas(
            &endpoint.latency_ewma, &old, sample if old == 0 else max(old + ((sample - old) >> 3), <int64_t>1)
        ):
            pass
    add(&endpoint.finished, 1)


# --- The Python objects ---------------------------------------------------------------------------------


# no_gc: what it refers to, memory and a str, refers to nothing.
@cython.no_gc
@cython.freelist(256)
@cython.final
cdef class Endpoint:
    """The endpoint of one call: `address`, and its `index` among the balancer's addresses.

    Goes back with `LoadBalancer.release`; when it is dropped instead, the call counts as ended without an
    outcome.
    """

    def __dealloc__(self):
        if self.taken:
            settle(&self.state.breaker, self.permit, IGNORED)
            balancer_release(self.state, IGNORED, 0)

    def __repr__(self):
        return f"<Endpoint {self.address}>"


@cython.final
cdef class Member:
    """An endpoint's state, its memory, and its breaker's Python object (None without breakers)."""


cdef class LoadBalancer:
    """Spreads calls over endpoints.

    `addresses`: 1 to 65,536 names, each once. `strategy`: ROUND_ROBIN; LEAST_LOADED, by calls in flight,
    equals in turn; RANDOM. With a `breaker` config each endpoint has a circuit breaker that is asked in the
    pick and fed by the release, and endpoints whose breaker refuses are passed over.

    Safe from any number of threads and tasks.

    Raises:
        ConfigError: naming the argument and what it accepts.
    """

    def __cinit__(self, addresses, strategy=LoadBalancingStrategy.ROUND_ROBIN, *, breaker=None):
        cdef Member member
        cdef list members = []
        if isinstance(addresses, (str, bytes)) or not isinstance(addresses, Iterable):
            raise ConfigError("addresses", addresses, "a sequence of addresses")
        names = tuple(addresses)
        if not 1 <= len(names) <= MAX_ENDPOINTS:
            raise ConfigError("addresses", f"{len(names)} addresses", f"1 to {MAX_ENDPOINTS} addresses")
        for name in names:
            if type(name) is not str or not name:
                raise ConfigError("addresses", name, "each a str that is not empty")
        if len(set(names)) != len(names):
            raise ConfigError("addresses", names, "each address once")
        if type(strategy) is not LoadBalancingStrategy:
            raise ConfigError("strategy", strategy, f"one of {', '.join(map(str, LoadBalancingStrategy))}")
        if breaker is not None and not isinstance(breaker, CircuitBreakerConfig):
            raise ConfigError("breaker", breaker, "a CircuitBreakerConfig, or None for no breakers")

        self.strategy_ = _STRATEGIES[strategy]
        self.breakers = breaker is not None
        self.id = add(&_balancers, 1) + 1
        self.memory = Memory(sizeof(BalancerState))
        self.state_ = <BalancerState *>self.memory.data
        self.state_.random = <uint64_t>int.from_bytes(urandom(8), "little")
        self.count = len(names)
        self.table_memory = Memory(<size_t>self.count * sizeof(EndpointState *))
        self.table = <EndpointState **>self.table_memory.data
        for index, name in enumerate(names):
            member = Member.__new__(Member)
            member.address = name
            member.memory = Memory(sizeof(EndpointState))
            member.state = <EndpointState *>member.memory.data
            member.state.balancer = self.id
            if self.breakers:
                breaker_init(
                    &member.state.breaker,
                    breaker.failure_threshold,
                    breaker.open_timeout,
                    breaker.half_open_max_calls,
                )
                member.breaker = breaker_view(&member.state.breaker, member.memory, name)
            members.append(member)
            self.table[<int64_t>index] = member.state
        self.members = tuple(members)

    cdef inline Member member(self, int64_t index):
        return <Member>PyTuple_GET_ITEM(self.members, index)

    def pick(self):
        """Return the `Endpoint` for one call; give it back with `release`.

        Raises:
            CircuitOpenError: every breaker refuses; `retry_after` is the time until the first may not.
        """
        cdef int64_t permit
        cdef int change
        cdef int64_t index = balancer_pick(
            self.state_, self.table, self.count, self.strategy_, self.breakers, &permit, &change
        )
        if index < 0:
            raise self._refusal()
        cdef Member member = self.member(index)
        cdef Endpoint endpoint = Endpoint.__new__(Endpoint)
        endpoint.state = member.state
        endpoint.memory = member.memory
        endpoint.address = member.address
        endpoint.index = index
        endpoint.permit = permit
        endpoint.taken = 1
        if change != 0:
            member.breaker.announce(change)
        return endpoint

    def _refusal(self):
        cdef int64_t wait_ns
        cdef int64_t first_ns = -1
        cdef Member first = self.member(0)
        cdef int64_t index
        for index in range(self.count):
            wait_ns = retry_after_ns(&self.table[index].breaker)
            if wait_ns >= 0 and (first_ns < 0 or wait_ns < first_ns):
                first_ns = wait_ns
                first = self.member(index)
        refused = f"the circuit breakers of all {self.count} endpoints refuse calls"
        if first_ns < 0:
            return CircuitOpenError(f"{refused}: each was forced open", inf)
        wait = first_ns * 1e-9
        return CircuitOpenError(f"{refused}: {first.address} opens first, in {wait:.3f} s", wait)

    def release(self, Endpoint endpoint not None, success, latency_us):
        """The call is over. `success` is what it says of the endpoint (None: nothing), `latency_us` how many
        microseconds it took, 0 to a week of them.

        Raises:
            ConfigError: an argument is outside its range; the endpoint is not released.
            ValueError: it was released before, or is another balancer's.
        """
        cdef int64_t latency = natural(latency_us)
        cdef int change, outcome
        if not 0 <= latency <= MAX_LATENCY_US:
            latency = check_int("latency_us", latency_us, 0, MAX_LATENCY_US)
        if success is not None and type(success) is not bool:
            raise ConfigError("success", success, "True, False or None")
        if endpoint.state is NULL or endpoint.state.balancer != self.id:
            raise ValueError(f"{endpoint!r} was not picked from this balancer")
        if exchange(&endpoint.taken, 0) == 0:
            raise ValueError(f"{endpoint!r} was released before")
        outcome = IGNORED if success is None else SUCCESS if success is True else FAILURE
        balancer_release(endpoint.state, outcome, latency)
        if self.breakers:
            change = settle(&endpoint.state.breaker, endpoint.permit, outcome)
            if change != 0:
                self.member(endpoint.index).breaker.announce(change)

    def breaker(self, address):
        """The circuit breaker of an endpoint: for its state, its callbacks, and to force or reset it.

        Raises:
            ConfigError: no such address, or the balancer has no breakers.
        """
        cdef Member member
        if not self.breakers:
            raise ConfigError("breaker", None, "a CircuitBreakerConfig given to this balancer")
        for member in self.members:
            if member.address == address:
                return member.breaker
        raise ConfigError("address", address, f"one of {', '.join(self.addresses)}")

    @property
    def addresses(self):
        """The addresses, in the order in which they were given."""
        return tuple([(<Member>member).address for member in self.members])

    @property
    def strategy(self):
        """The LoadBalancingStrategy."""
        return next(strategy for strategy, number in _STRATEGIES.items() if number == self.strategy_)

    def get_stats(self):
        """An `EndpointStats` for each endpoint, in the order of `addresses`."""
        cdef Member member
        stats = []
        for member in self.members:
            stats.append(EndpointStats(
                member.address,
                _in_flight(member.state),
                load(&member.state.started),
                load(&member.state.failures),
                False,
                CircuitState.CLOSED if member.breaker is None else member.breaker.state,
                load(&member.state.latency_ewma) / 256.0,
            ))
        return stats
