# cython: language_level=3, freethreading_compatible=True, cdivision=True
"""The load balancer: endpoints that come and go while calls are spread over them."""

from collections.abc import Iterable, Mapping
from math import inf
from os import urandom
from typing import NamedTuple

cimport cython
from cpython.object cimport PyObject, PyTypeObject, destructor
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memset

from tai_grpc._ext.primitives.arguments cimport natural
from tai_grpc._ext.primitives.atomics cimport add_seq, cas_seq, exchange_held, load, load_seq, set_bits, store
from tai_grpc._ext.primitives.breaker cimport (
    FAILURE, IGNORED, SUCCESS,
    breaker_bytes, breaker_settings, breaker_setup, breaker_view, retry_after_ns,
)
from tai_grpc._ext.primitives.clock cimport monotonic_ns
from tai_grpc._ext.primitives.endpoint cimport (
    DRAINING, EJECTED, FULL, GROUP_BITS, HELD, LEAST_LOADED, NEVER, PARKED, RESERVED, SHARED, USED,
    bits_of, breaker_of, counted, endpoint_at, mixed,
)
from tai_grpc._ext.primitives.outlier cimport judge_panic, readmit
from tai_grpc._ext.primitives.slow_start cimport ramp_begin
from tai_grpc._ext.primitives.strategies cimport Pick, balancer_pick_held, balancer_release_held
from tai_grpc._ext.primitives.tournament cimport replay
from tai_grpc._ext.primitives.window cimport WindowState

from tai_grpc._ext.primitives.breaker import CircuitState
from tai_grpc.checks import MAX_WEIGHT, check_int, check_member, check_type
from tai_grpc.config import CircuitBreakerConfig, LoadBalancingStrategy, OutlierConfig, SlowStartConfig
from tai_grpc.errors import CircuitOpenError, ConfigError

MAX_ENDPOINTS = 65_536
"""How many endpoints one balancer takes."""

cdef int64_t MAX_LATENCY_US = 604_800_000_000
cdef int64_t CACHE_LINE = 64
# In the order of endpoint.pxd's Strategy.
cdef tuple _STRATEGIES = (
    LoadBalancingStrategy.ROUND_ROBIN,
    LoadBalancingStrategy.LEAST_LOADED,
    LoadBalancingStrategy.RANDOM,
    LoadBalancingStrategy.POWER_OF_TWO,
    LoadBalancingStrategy.PEAK_EWMA,
)


class EndpointStats(NamedTuple):
    """What a balancer knows of an endpoint.

    `active_connections` are the calls in flight, `total_requests` the picks, `failures` those released with
    success=False; the first and the last together are never more than the second. `latency_ewma_us` is the
    exponentially weighted mean latency of the successful ones, in microseconds (weight 1/8 to the newest, as
    TCP's smoothed round trip in RFC 6298); 0.0: none yet. `ejected`: it is an outlier. `draining`: it gets no
    new calls.
    """

    address: str
    active_connections: int
    total_requests: int
    failures: int
    ejected: bool
    breaker_state: CircuitState
    latency_ewma_us: float
    weight: int
    draining: bool


@cython.no_gc
@cython.freelist(256)
@cython.final
cdef class Endpoint:
    """The endpoint of one call: `address`, and its `index`.

    Goes back with `LoadBalancer.release`; when it is dropped instead, the call counts as ended without an
    outcome.
    """

    def __repr__(self):
        return f"<Endpoint {self.address}>"

    @property
    def address(self):
        return None if self.place is NULL else (<Place>self.place).address

    @property
    def index(self):
        """The endpoint's number: 0 and up in the order given; a removed one's goes to one that is added."""
        return None if self.place is NULL else (<Place>self.place).index


# What would be Endpoint.__dealloc__, but for this: Cython puts the current exception away around that, which
# takes as long as all the rest of it, and nothing here can meddle with one.
cdef destructor _forget = (<PyTypeObject *>Endpoint).tp_dealloc


cdef void _end(PyObject *dropped) noexcept:
    # Casts alone: a variable of its type would count a reference to what has none any more.
    cdef PyObject *place = (<Endpoint>dropped).place
    if (<Endpoint>dropped).taken:
        balancer_release_held(
            (<Place>place).ground.state, (<Endpoint>dropped).state, (<Endpoint>dropped).permit, IGNORED, 0
        )
    Py_XDECREF(place)
    _forget(dropped)


(<PyTypeObject *>Endpoint).tp_dealloc = _end


# --- The balancer ---------------------------------------------------------------------------------------


cdef int64_t _weight(object weight) except -1:
    cdef int64_t number = natural(weight)
    return number if 1 <= number <= MAX_WEIGHT else check_int("weight", weight, 1, MAX_WEIGHT)


cdef str _address(str field, object address):
    if type(address) is not str or not address:
        accepted = "a str that is not empty"
        raise ConfigError(field, address, f"each {accepted}" if field == "addresses" else accepted)
    return address


cdef int64_t _ns(double seconds) noexcept:
    return <int64_t>(seconds * 1e9 + 0.5)


cdef class LoadBalancer:
    """LoadBalancer(addresses, strategy=..., *, weights=None, breaker=None, outlier=None, slow_start=None, \
seed=None)\n--\n
    Spreads calls over endpoints.

    `addresses`: 1 to 65,536 names, each once. `strategy`: a LoadBalancingStrategy, ROUND_ROBIN unless another
    is given. `weights`: of those that have another one than 1, 1 to 1000; an endpoint of weight 2 is meant to
    have twice the calls, or twice the calls in flight, of one of weight 1:

    - ROUND_ROBIN and RANDOM: its share of the picks.
    - LEAST_LOADED: the lowest (calls in flight + 1) / weight wins; among equals, who was picked longest ago.
    - POWER_OF_TWO, PEAK_EWMA: two different ones are drawn at random by weight, and the lower load / weight
      wins. If 16 draws meet nobody else who may be picked, there is only one choice.

    With a `breaker` config each endpoint has a circuit breaker that is asked in the pick and fed by the
    release, and endpoints whose breaker refuses are passed over. With an `outlier` config, so are those that
    do worse than the others, unless fewer than half would be left (panic): then ejections are ignored,
    breakers are not. With a `slow_start` config, an endpoint that is added or readmitted begins with part of
    its weight; those of `addresses` do not, since they all begin together. `seed` (0 to 2^64 - 1) makes the
    random strategies repeat themselves.

    Safe from any number of threads and tasks. What LEAST_LOADED picks is exact when no other thread picks or
    releases meanwhile; else it was the least loaded at some time during the pick. A change of endpoints or
    weights takes time in proportion to their number. The memory of the most endpoints there ever were is
    kept: 256 bytes each (and its breaker's window, if it has one), for up to twice as many, 8 at least.

    Sources: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); Finagle's
    PeakEwma; gRFC A50; Envoy's slow start and panic threshold.

    Raises:
        ConfigError: naming the argument and what it accepts.
    """

    def __cinit__(
        self,
        addresses,
        strategy=LoadBalancingStrategy.ROUND_ROBIN,
        *,
        weights=None,
        breaker=None,
        outlier=None,
        slow_start=None,
        seed=None,
    ):
        if isinstance(addresses, (str, bytes)) or not isinstance(addresses, Iterable):
            raise ConfigError("addresses", addresses, "a sequence of addresses")
        names = tuple(addresses)
        if not names:
            raise ConfigError("addresses", addresses, "at least one address")
        if len(names) > MAX_ENDPOINTS:
            raise ConfigError("len(addresses)", len(names), f"at most {MAX_ENDPOINTS}")
        for name in names:
            _address("addresses", name)
        if len(set(names)) != len(names):
            raise ConfigError("addresses", names, "each address once")
        check_member("strategy", strategy, LoadBalancingStrategy)
        if weights is None:
            weights = {}
        if not isinstance(weights, Mapping) or not weights.keys() <= set(names):
            raise ConfigError("weights", weights, "a mapping of some of the addresses to their weights")
        check_type("breaker", breaker, CircuitBreakerConfig, optional=True)
        check_type("outlier", outlier, OutlierConfig, optional=True)
        check_type("slow_start", slow_start, SlowStartConfig, optional=True)
        if seed is not None:
            check_int("seed", seed, 0, 2**64 - 1)

        self.strategy_ = strategy
        self.breaker_config = breaker
        self.ground = Ground()
        self.state = self.ground.state
        cdef uint64_t random = int.from_bytes(urandom(8), "little") if seed is None else seed
        self.state.picks[HELD].random = <int64_t>random
        self.state.picks[SHARED].random = <int64_t>mixed(random)
        self.state.strategy = _STRATEGIES.index(strategy)
        self.state.passed_over = DRAINING | PARKED | EJECTED
        self.state.next_sweep_ns = NEVER
        self.state.next_ramp_ns = NEVER
        self.state.breakers = breaker is not None
        self.state.first_bits = max(bits_of(<uint64_t>len(names) - 1), <int64_t>GROUP_BITS)
        cdef int64_t place_bytes = sizeof(EndpointState)
        if self.state.breakers:
            self.breaker_settings = breaker_settings(breaker)
            place_bytes += breaker_bytes(&self.breaker_settings)
        self.state.place_bytes = (place_bytes + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE
        if outlier is not None:
            self._set_outlier(outlier)
        cdef list members = [self._settle(name, _weight(weights.get(name, 1))) for name in names]
        for each in members:
            self._open((<Member>each).place.state)
        self.table = Table.of(self.ground, members, 0)
        if slow_start is not None:
            self.state.timed = True
            self.state.ramp_ns = _ns(slow_start.window)
            self.state.min_ramp = slow_start.min_weight_percent / 100.0
            self.state.ramp_exponent = 1.0 / slow_start.aggression

    def __repr__(self):
        cdef Py_ssize_t endpoints = len(self.newest().members)
        return f"<LoadBalancer {self.strategy_.name} of {endpoints} endpoint{'' if endpoints == 1 else 's'}>"

    def _set_outlier(self, config):
        self.state.outliers = True
        self.state.timed = True
        self.state.interval_ns = _ns(config.interval)
        self.state.next_sweep_ns = monotonic_ns() + self.state.interval_ns
        self.state.base_ejection_ns = _ns(config.base_ejection_time)
        self.state.max_ejection_ns = _ns(config.max_ejection_time)
        self.state.max_ejection_percent = config.max_ejection_percent
        if config.success_rate is not None:
            self.state.success_rate_hosts = config.success_rate.minimum_hosts
            self.state.success_rate_volume = config.success_rate.request_volume
            self.state.stdev_factor = config.success_rate.stdev_factor
        if config.failure_percentage is not None:
            self.state.failure_percentage_hosts = config.failure_percentage.minimum_hosts
            self.state.failure_percentage_volume = config.failure_percentage.request_volume
            self.state.failure_threshold = config.failure_percentage.threshold / 100.0

    @cython.final
    cdef Table newest(self):
        cdef Table table
        with cython.critical_section(self):
            table = self.table
        return table

    @cython.final
    cdef Member member(self, EndpointState *endpoint):
        """The member at an endpoint's place, None when it is removed."""
        cdef Table table = self.newest()
        if endpoint.place >= PyTuple_GET_SIZE(table.by_place):
            return None
        return <Member>PyTuple_GET_ITEM(table.by_place, endpoint.place)

    # --- Calls

    def pick(self):
        """Return the `Endpoint` for one call; give it back with `release`.

        Raises:
            CircuitOpenError: every breaker refuses; `retry_after` is the time until the first may not.
        """
        cdef Table table = self.newest()
        cdef Pick pick
        cdef Endpoint endpoint = Endpoint.__new__(Endpoint)
        while True:
            balancer_pick_held(self.state, &table.state, &pick)
            if pick.endpoint is NULL:
                raise self._refusal()
            # What the table lists keeps its place; what it does not was added meanwhile, or removed again.
            endpoint.place = place_in(table, pick.endpoint)
            if endpoint.place is not NULL:
                break
            table = self.newest()
            endpoint.place = place_in(table, pick.endpoint)
            if endpoint.place is not NULL:
                break
            balancer_release_held(self.state, pick.endpoint, pick.permit, IGNORED, 0)
        Py_INCREF(<object>endpoint.place)
        endpoint.state = pick.endpoint
        endpoint.permit = pick.permit
        endpoint.taken = 1
        if pick.change != 0:
            self._announce(endpoint.state, pick.change)
        return endpoint

    cdef int _announce(self, EndpointState *endpoint, int change) except -1:
        """Tell an endpoint's breaker of its transition, unless it is removed."""
        cdef Member member = self.member(endpoint)
        return 0 if member is None else member.breaker.announce(change)

    def _refusal(self):
        cdef int64_t wait_ns
        cdef int64_t first_ns = -1
        cdef int64_t count = 0
        cdef Member member
        cdef Member first = None
        for member in self.newest().members:
            if load_seq(&member.place.state.status) & DRAINING:
                continue
            count += 1
            wait_ns = retry_after_ns(breaker_of(member.place.state))
            if wait_ns >= 0 and (first_ns < 0 or wait_ns < first_ns):
                first_ns = wait_ns
                first = member
        refused = f"the circuit breakers of all {count} endpoints refuse calls"
        if first is None:
            return CircuitOpenError(f"{refused}: each was forced open", inf)
        wait = first_ns * 1e-9
        first_address = first.place.address
        return CircuitOpenError(
            f"{refused}: {first_address} is the first to admit calls again, in {wait:.3f} s", wait
        )

    def release(self, endpoint, success, latency_us):
        """The call is over. `success` is what it says of the endpoint (None: nothing), `latency_us` how many
        microseconds it took, 0 to a week of them.

        Raises:
            ConfigError: an argument is outside its range; the endpoint is not released.
            ValueError: it was released before, or is another balancer's.
        """
        cdef int64_t latency = natural(latency_us)
        cdef int change, outcome
        cdef Endpoint picked
        if type(endpoint) is not Endpoint:
            raise ConfigError("endpoint", endpoint, "an Endpoint that was picked from this balancer")
        picked = <Endpoint>endpoint
        if not 0 <= latency <= MAX_LATENCY_US:
            latency = check_int("latency_us", latency_us, 0, MAX_LATENCY_US)
        if success is not None and type(success) is not bool:
            raise ConfigError("success", success, "True, False or None")
        if picked.place is NULL or (<Place>picked.place).ground is not self.ground:
            raise ValueError(f"{endpoint!r} was not picked from this balancer")
        if exchange_held(&picked.taken, 0) == 0:
            raise ValueError(f"{endpoint!r} was released before")
        outcome = IGNORED if success is None else SUCCESS if success is True else FAILURE
        change = balancer_release_held(self.state, picked.state, picked.permit, outcome, latency)
        if change != 0:
            self._announce(picked.state, change)

    # --- Endpoints come and go

    cdef Member _settle(self, str address, int64_t weight):
        """Give a new endpoint a place and a breaker; it takes no part yet."""
        cdef char *begin
        cdef Place place = Place.__new__(Place)
        cdef Member member = Member.__new__(Member)
        place.ground = self.ground
        place.address = address
        place.index = self.ground.reserve()
        place.state = endpoint_at(self.state, place.index)
        place.state.before = counted(place.state.started)
        # All from there on.
        begin = <char *>&place.state.latency_ewma
        memset(begin, 0, <size_t>(<char *>place.state + self.state.place_bytes - begin))
        store(&place.state.turn, 0)
        store(&place.state.weight, weight)
        store(&place.state.ramp, FULL)
        member.place = place
        if self.state.breakers:
            breaker_setup(
                breaker_of(place.state), <WindowState *>(breaker_of(place.state) + 1), &self.breaker_settings
            )
            member.breaker = breaker_view(
                breaker_of(place.state), place, address, self.breaker_config.outcome_of
            )
        return member

    cdef int _open(self, EndpointState *endpoint) except -1:
        """Let a new endpoint take part."""
        add_seq(&self.state.active, 1)
        add_seq(&endpoint.status, USED - RESERVED)
        self._changed(endpoint)
        return 0

    cdef int _changed(self, EndpointState *endpoint) except -1:
        if self.state.strategy == LEAST_LOADED:
            replay(self.state, endpoint.place)
        if load(&self.state.ejected) != 0:
            judge_panic(self.state)
        return 0

    cdef bint _swap(self, Table old, Table new):
        """Make `new` the newest table, unless `old` no longer is that."""
        with cython.critical_section(self):
            if self.table is not old:
                return False
            store(&self.state.version, new.state.version)
            self.table = new
        return True

    cdef Member _find(self, Table table, object address):
        cdef Member member = table.by_address.get(address) if type(address) is str else None
        if member is None:
            raise ConfigError("address", address, f"one of {', '.join(table.by_address)}")
        return member

    def add(self, address, weight=1):
        """Add an endpoint. It has calls and a breaker of its own, also when one of this address was removed.

        Raises:
            ConfigError: the address is there already, drained or not; there are 65,536 already; `weight` is
                not 1 to 1000.
        """
        cdef Table old
        cdef Member member = None
        name = _address("address", address)
        size = _weight(weight)
        while True:
            old = self.newest()
            if name in old.by_address:
                raise ConfigError("address", name, "an address that is not there yet, drained or not")
            if len(old.members) >= MAX_ENDPOINTS:
                raise ConfigError("address", name, f"at most {MAX_ENDPOINTS} endpoints in all")
            if member is None:
                member = self._settle(name, size)
            if self._swap(old, Table.of(self.ground, [*old.members, member], old.state.version + 1)):
                break
        # In the table first, so that whoever picks it finds it there; and on its ramp before it is picked.
        ramp_begin(self.state, member.place.state, monotonic_ns())
        self._open(member.place.state)

    def set_weight(self, address, weight):
        """Give an endpoint another weight, from the next pick on.

        Raises:
            ConfigError: no such address, or `weight` is not 1 to 1000.
        """
        cdef Table old
        cdef Member member
        cdef int64_t size = _weight(weight)
        while True:
            old = self.newest()
            member = self._find(old, address)
            store(&member.place.state.weight, size)
            if self._swap(old, Table.of(self.ground, list(old.members), old.state.version + 1)):
                break
        self._changed(member.place.state)

    cdef int _drain(self, Member member) except -1:
        cdef EndpointState *endpoint = member.place.state
        cdef int64_t active = load_seq(&self.state.active)
        if load_seq(&endpoint.status) & DRAINING:
            return 0
        while True:
            if active <= 1:
                accepted = "one of several that take calls: it is the last, so add another one first"
                raise ConfigError("address", member.place.address, accepted)
            if cas_seq(&self.state.active, &active, active - 1):
                break
        if set_bits(&endpoint.status, DRAINING) & DRAINING:
            add_seq(&self.state.active, 1)
        readmit(self.state, endpoint)
        self._changed(endpoint)
        return 0

    def drain(self, address):
        """Give an endpoint no new calls, for ever; those in flight finish.

        It stays in `get_stats`: once its `active_connections` are 0 it can be removed, and no call of it
        will begin. Draining it again changes nothing.

        Raises:
            ConfigError: no such address, or all others are drained.
        """
        cdef Table old
        while True:
            old = self.newest()
            self._drain(self._find(old, address))
            if self._swap(old, Table.of(self.ground, list(old.members), old.state.version + 1)):
                return

    def remove(self, address):
        """Drain an endpoint and forget it: its calls in flight may finish, but it is in no statistics, and
        the callbacks of its breaker hear no more.

        Raises:
            ConfigError: no such address, or all others are drained.
        """
        cdef Table old
        cdef Member member
        while True:
            old = self.newest()
            member = self._find(old, address)
            self._drain(member)
            others = [each for each in old.members if each is not member]
            if self._swap(old, Table.of(self.ground, others, old.state.version + 1)):
                return

    # --- What is known

    def breaker(self, address):
        """The circuit breaker of an endpoint: for its state, its callbacks, and to force or reset it.

        Raises:
            ConfigError: no such address, or the balancer has no breakers.
        """
        if self.breaker_config is None:
            raise ConfigError("breaker", None, "a CircuitBreakerConfig given to this balancer")
        return self._find(self.newest(), address).breaker

    @property
    def addresses(self):
        """The addresses in the order in which they were added, the drained among them."""
        return tuple(self.newest().by_address)

    @property
    def strategy(self):
        """The LoadBalancingStrategy."""
        return self.strategy_

    def get_stats(self):
        """An `EndpointStats` for each endpoint, in the order of `addresses`."""
        cdef Member member
        cdef EndpointState *state
        cdef int64_t failures, finished, started, status
        stats = []
        for member in self.newest().members:
            state = member.place.state
            status = load_seq(&state.status)
            failures = load_seq(&state.failures)
            finished = counted(state.finished) - state.before
            started = counted(state.started) - state.before
            stats.append(EndpointStats(
                member.place.address,
                started - finished,
                started,
                failures,
                status & EJECTED != 0,
                CircuitState.CLOSED if member.breaker is None else member.breaker.state,
                load(&state.latency_ewma) / 256.0,
                load(&state.weight),
                status & DRAINING != 0,
            ))
        return stats
