import gc
import math
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tai_grpc._ext.primitives.balancer import Endpoint, LoadBalancer
from tai_grpc._ext.primitives.breaker import CircuitState
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import CircuitBreakerConfig, LoadBalancingStrategy
from tai_grpc.errors import CircuitOpenError, ConfigError

ROUND_ROBIN, LEAST_LOADED, RANDOM = (
    LoadBalancingStrategy.ROUND_ROBIN,
    LoadBalancingStrategy.LEAST_LOADED,
    LoadBalancingStrategy.RANDOM,
)
EVERY_STRATEGY = pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))
ONE_STRIKE = CircuitBreakerConfig(failure_threshold=1, open_timeout=1.0, half_open_max_calls=1)


def picks(balancer: LoadBalancer, n: int) -> Counter[str]:
    """What `n` calls picked, one after the other, all successful."""
    picked: Counter[str] = Counter()
    for _ in range(n):
        endpoint = balancer.pick()
        picked[endpoint.address] += 1
        balancer.release(endpoint, True, 100)
    return picked


def in_flight(balancer: LoadBalancer) -> list[int]:
    return [stats.active_connections for stats in balancer.get_stats()]


def test_round_robin_takes_turns() -> None:
    balancer = LoadBalancer(["a", "b", "c"])
    order = [balancer.pick() for _ in range(7)]
    assert [endpoint.address for endpoint in order] == ["a", "b", "c", "a", "b", "c", "a"]
    assert [endpoint.index for endpoint in order] == [0, 1, 2, 0, 1, 2, 0]


@given(st.integers(1, 6), st.lists(st.one_of(st.none(), st.integers(0, 50)), max_size=100))
def test_least_loaded_picks_one_of_the_least_loaded(size: int, steps: list[int | None]) -> None:
    balancer = LoadBalancer([f"s{i}" for i in range(size)], LEAST_LOADED)
    load = [0] * size
    calls: list[Endpoint] = []
    for step in steps:
        if step is None:
            endpoint = balancer.pick()
            assert load[endpoint.index] == min(load)
            load[endpoint.index] += 1
            calls.append(endpoint)
        elif calls:
            endpoint = calls.pop(step % len(calls))
            load[endpoint.index] -= 1
            balancer.release(endpoint, True, 1)
        assert in_flight(balancer) == load


def test_equally_loaded_endpoints_take_turns() -> None:
    """Not always the first, and not the one after a busy one twice as often."""
    balancer = LoadBalancer(["a", "b", "c", "d"], LEAST_LOADED)
    busy = balancer.pick()
    assert picks(balancer, 300) == {address: 100 for address in "abcd" if address != busy.address}


def test_random_spreads_evenly() -> None:
    """Each of 4 endpoints is within 10 standard deviations of its quarter of 10,000."""
    picked = picks(LoadBalancer(["a", "b", "c", "d"], RANDOM, seed=2), 10_000)
    assert all(2_070 < picked[address] < 2_930 for address in "abcd")


def test_two_balancers_are_not_random_alike() -> None:
    first, second = (LoadBalancer(["a", "b"], RANDOM) for _ in range(2))
    assert [first.pick().index for _ in range(100)] != [second.pick().index for _ in range(100)]


@EVERY_STRATEGY
def test_an_endpoint_whose_breaker_refuses_is_passed_over_and_the_others_share(
    strategy: LoadBalancingStrategy,
) -> None:
    balancer = LoadBalancer(["a", "b", "c"], strategy, breaker=CircuitBreakerConfig(), seed=1)
    balancer.breaker("a").force_open()
    picked = picks(balancer, 4_000)
    assert set(picked) == {"b", "c"}
    if strategy in (ROUND_ROBIN, LEAST_LOADED):
        assert picked["b"] == picked["c"]
    else:
        assert abs(picked["b"] - 2_000) < 320


@EVERY_STRATEGY
def test_failures_open_the_endpoints_breaker_and_a_probe_closes_it(
    strategy: LoadBalancingStrategy, clock: FrozenClock
) -> None:
    balancer = LoadBalancer(["a", "b"], strategy, breaker=ONE_STRIKE)
    told: list[tuple[str, CircuitState, CircuitState]] = []

    def tell(address: str, old: CircuitState, new: CircuitState) -> None:
        told.append((address, old, new))

    for address in balancer.addresses:
        balancer.breaker(address).on_transition(partial(tell, address))
    failed = balancer.pick()
    balancer.release(failed, False, 100)
    other = "b" if failed.address == "a" else "a"
    assert picks(balancer, 10) == {other: 10}
    clock.advance(balancer.breaker(failed.address).retry_after())
    assert failed.address in picks(balancer, 100)
    assert told == [
        (failed.address, CircuitState.CLOSED, CircuitState.OPEN),
        (failed.address, CircuitState.OPEN, CircuitState.HALF_OPEN),
        (failed.address, CircuitState.HALF_OPEN, CircuitState.CLOSED),
    ]


@EVERY_STRATEGY
def test_when_all_refuse_the_error_names_the_first_to_open(
    strategy: LoadBalancingStrategy, clock: FrozenClock
) -> None:
    balancer = LoadBalancer(["a", "b", "c"], strategy, breaker=ONE_STRIKE)
    for address in ("b", "c", "a"):
        balancer.breaker(address).record_failure()
        clock.advance(0.125)
    with pytest.raises(
        CircuitOpenError, match=r"all 3 endpoints refuse calls: b is the first to admit calls again, in 0\.62"
    ) as refusal:
        balancer.pick()
    assert refusal.value.retry_after == balancer.breaker("b").retry_after()
    assert in_flight(balancer) == [0, 0, 0]
    clock.advance(refusal.value.retry_after)
    assert balancer.pick().address == "b"


def test_when_all_are_forced_open_there_is_no_time_to_name() -> None:
    balancer = LoadBalancer(["a", "b"], breaker=ONE_STRIKE)
    balancer.breaker("a").force_open()
    balancer.breaker("b").force_open()
    with pytest.raises(CircuitOpenError, match="each was forced open") as refusal:
        balancer.pick()
    assert refusal.value.retry_after == math.inf


def half_open(clock: FrozenClock, strategy: LoadBalancingStrategy, probes: int) -> LoadBalancer:
    balancer = LoadBalancer(["a"], strategy, breaker=CircuitBreakerConfig(1, 1.0, probes))
    balancer.breaker("a").record_failure()
    clock.advance(balancer.breaker("a").retry_after())
    return balancer


@EVERY_STRATEGY
def test_a_call_that_says_nothing_gives_its_probe_back(
    strategy: LoadBalancingStrategy, clock: FrozenClock
) -> None:
    balancer = half_open(clock, strategy, probes=1)
    endpoint = balancer.pick()
    with pytest.raises(CircuitOpenError):
        balancer.pick()
    balancer.release(endpoint, None, 0)
    balancer.release(balancer.pick(), True, 1)
    assert balancer.breaker("a").state is CircuitState.CLOSED


@EVERY_STRATEGY
def test_an_endpoint_that_is_dropped_gives_back_its_call_and_its_probe(
    strategy: LoadBalancingStrategy, clock: FrozenClock
) -> None:
    balancer = half_open(clock, strategy, probes=1)
    endpoint = balancer.pick()
    assert in_flight(balancer) == [1]
    del endpoint
    assert in_flight(balancer) == [0]
    balancer.release(balancer.pick(), True, 1)
    assert balancer.breaker("a").state is CircuitState.CLOSED
    assert balancer.get_stats()[0].failures == 0


@EVERY_STRATEGY
def test_threads_share_the_probes_of_a_half_open_endpoint(
    strategy: LoadBalancingStrategy, clock: FrozenClock, hammer: Callable[[Callable[[], int]], list[int]]
) -> None:
    balancer = half_open(clock, strategy, probes=5)
    kept: list[Endpoint] = []

    def probe() -> int:
        for made in range(10):
            try:
                kept.append(balancer.pick())
            except CircuitOpenError:
                return made
        return 10

    assert sum(hammer(probe)) == 5


@EVERY_STRATEGY
def test_eight_threads_lose_no_call(
    strategy: LoadBalancingStrategy, hammer: Callable[[Callable[[], None]], list[None]]
) -> None:
    balancer = LoadBalancer(["a", "b", "c"], strategy, breaker=CircuitBreakerConfig(failure_threshold=60_000))

    def work() -> None:
        for i in range(5_000):
            balancer.release(balancer.pick(), i % 5 != 0, 7)
        balancer.pick()

    hammer(work)
    stats = balancer.get_stats()
    assert sum(each.total_requests for each in stats) == 8 * 5_001
    assert sum(each.failures for each in stats) == 8 * 1_000
    assert in_flight(balancer) == [0, 0, 0]


def test_stats_tell_of_each_endpoint() -> None:
    balancer = LoadBalancer(["a", "b"], breaker=ONE_STRIKE)
    first, second = balancer.pick(), balancer.pick()
    balancer.release(first, False, 900)
    a, b = balancer.get_stats()
    assert a == ("a", 0, 1, 1, False, CircuitState.OPEN, 0.0, 1, False)
    assert b == ("b", 1, 1, 0, False, CircuitState.CLOSED, 0.0, 1, False)
    assert (b.address, b.active_connections, b.total_requests, b.failures) == ("b", 1, 1, 0)
    assert (b.ejected, b.breaker_state, b.latency_ewma_us) == (False, CircuitState.CLOSED, 0.0)
    balancer.release(second, True, 800)
    assert balancer.get_stats()[1].latency_ewma_us == 800.0


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50))
def test_the_latency_is_a_moving_mean_with_an_eighth_for_the_newest(samples: list[int]) -> None:
    balancer = LoadBalancer(["a"])
    expected = float(samples[0])
    balancer.release(balancer.pick(), True, samples[0])
    for sample in samples[1:]:
        expected += (sample - expected) / 8
        balancer.release(balancer.pick(), True, sample)
        balancer.release(balancer.pick(), False, 5)
        balancer.release(balancer.pick(), None, 5)
    # Each step rounds down by less than 1/256 us, and forgets an eighth of what was lost before.
    assert expected - 8 / 256 <= balancer.get_stats()[0].latency_ewma_us <= expected + 2 / 256


def test_an_endpoint_is_released_once() -> None:
    balancer = LoadBalancer(["a"])
    endpoint = balancer.pick()
    balancer.release(endpoint, True, 1)
    with pytest.raises(ValueError, match="<Endpoint a> was released before"):
        balancer.release(endpoint, True, 1)
    assert in_flight(balancer) == [0]
    assert balancer.get_stats()[0].total_requests == 1


def test_an_endpoint_goes_back_to_its_own_balancer() -> None:
    mine, other = LoadBalancer(["a"]), LoadBalancer(["a"])
    endpoint = mine.pick()
    with pytest.raises(ValueError, match="not picked from this balancer"):
        other.release(endpoint, True, 1)
    with pytest.raises(ValueError, match="not picked from this balancer"):
        mine.release(Endpoint(), True, 1)
    with pytest.raises(ConfigError, match=r"endpoint=None: expected an Endpoint"):
        mine.release(None, True, 1)  # type: ignore[arg-type]  # what is tested
    assert in_flight(mine) == [1]


@pytest.mark.parametrize("latency_us", [-1, 604_800_000_001, 2**64, 1.0, True, None, "1"])
def test_a_wrong_latency_releases_nothing(latency_us: int) -> None:
    balancer = LoadBalancer(["a"])
    endpoint = balancer.pick()
    with pytest.raises(ConfigError, match=r"latency_us=.*an int from 0 to 604800000000"):
        balancer.release(endpoint, True, latency_us)
    assert in_flight(balancer) == [1]
    balancer.release(endpoint, True, 604_800_000_000)


@pytest.mark.parametrize("success", [0, 1, "yes", 1.0])
def test_success_is_a_bool_or_none(success: bool) -> None:
    balancer = LoadBalancer(["a"])
    endpoint = balancer.pick()
    with pytest.raises(ConfigError, match=r"success=.*True, False or None"):
        balancer.release(endpoint, success, 1)


def test_breakers_and_endpoints_outlive_their_balancer(clock: FrozenClock) -> None:
    balancer = LoadBalancer(["a"], breaker=ONE_STRIKE)
    breaker, endpoint = balancer.breaker("a"), balancer.pick()
    assert breaker is balancer.breaker("a")
    assert breaker.name == "a"
    del balancer
    gc.collect()
    assert (endpoint.address, endpoint.index, repr(endpoint)) == ("a", 0, "<Endpoint a>")
    del endpoint
    breaker.record_failure()
    assert breaker.state is CircuitState.OPEN


def test_a_breaker_is_asked_for_by_address() -> None:
    balancer = LoadBalancer(["a", "b"], breaker=ONE_STRIKE)
    with pytest.raises(ConfigError, match="address='z': expected one of a, b"):
        balancer.breaker("z")
    with pytest.raises(ConfigError, match="breaker=None: expected a CircuitBreakerConfig"):
        LoadBalancer(["a"]).breaker("a")


@EVERY_STRATEGY
def test_it_says_what_it_is(strategy: LoadBalancingStrategy) -> None:
    balancer = LoadBalancer(iter(["a", "b"]), strategy)
    assert balancer.addresses == ("a", "b")
    assert balancer.strategy is strategy


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ([], "at least one address"),
        ([str(i) for i in range(65_537)], "65537: expected at most 65536$"),
        ("localhost:50051", "a sequence of addresses"),
        (b"localhost:50051", "a sequence of addresses"),
        (5, "a sequence of addresses"),
        (["a", ""], "not empty"),
        (["a", 5], "not empty"),
        (["a", None], "not empty"),
        (["a", "b", "a"], "each address once"),
    ],
)
def test_the_addresses_are_checked(addresses: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"addresses\)?=.*{message}"):
        LoadBalancer(addresses)


@pytest.mark.parametrize("strategy", ["round_robin", 0, None])
def test_the_strategy_is_checked(strategy: LoadBalancingStrategy) -> None:
    with pytest.raises(ConfigError, match=r"strategy=.*one of LoadBalancingStrategy\.ROUND_ROBIN"):
        LoadBalancer(["a"], strategy)


def test_the_breaker_config_is_checked() -> None:
    with pytest.raises(ConfigError, match="breaker=True: expected a CircuitBreakerConfig"):
        LoadBalancer(["a"], breaker=True)  # type: ignore[arg-type]  # what is tested
