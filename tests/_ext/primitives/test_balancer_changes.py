"""Endpoints that are added, drained and removed while others pick."""

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count, takewhile
from threading import Event

import pytest

from tai_grpc._ext.primitives.balancer import MAX_ENDPOINTS, Endpoint, LoadBalancer
from tai_grpc._ext.primitives.breaker import CircuitState
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc.config import (
    CircuitBreakerConfig,
    LoadBalancingStrategy,
    OutlierConfig,
    SlowStartConfig,
    Window,
)
from tai_grpc.errors import CircuitOpenError, ConfigError

Hammer = Callable[[Callable[[], int]], list[int]]
EVERY_STRATEGY = pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))
BREAKER = CircuitBreakerConfig(65_535)


def addresses_of(balancer: LoadBalancer, times: int = 200) -> set[str]:
    return {balancer.pick().address for _ in range(times)}


def in_flight(balancer: LoadBalancer) -> dict[str, int]:
    return {stats.address: stats.active_connections for stats in balancer.get_stats()}


@EVERY_STRATEGY
def test_who_is_added_is_picked_and_who_is_drained_is_not(strategy: LoadBalancingStrategy) -> None:
    balancer = LoadBalancer(["a", "b"], strategy, breaker=BREAKER, seed=1)
    balancer.add("c")
    assert balancer.addresses == ("a", "b", "c")
    assert addresses_of(balancer) == {"a", "b", "c"}
    balancer.drain("b")
    assert addresses_of(balancer) == {"a", "c"}
    assert [stats.draining for stats in balancer.get_stats()] == [False, True, False]
    balancer.remove("a")
    assert list(balancer.addresses) == ["b", "c"]
    assert addresses_of(balancer) == {"c"}


@EVERY_STRATEGY
def test_calls_of_the_drained_and_the_removed_may_finish(strategy: LoadBalancingStrategy) -> None:
    balancer = LoadBalancer(["a", "b", "c"], strategy, breaker=BREAKER, seed=1)
    calls: dict[str, Endpoint] = {}
    while len(calls) < 3:
        endpoint = balancer.pick()
        calls.setdefault(endpoint.address, endpoint)
    del endpoint
    balancer.drain("a")
    balancer.remove("b")
    assert in_flight(balancer) == {"a": 1, "c": 1}
    for call in calls.values():
        balancer.release(call, False, 10)
    assert in_flight(balancer) == {"a": 0, "c": 0}
    assert {stats.address: stats.failures for stats in balancer.get_stats()} == {"a": 1, "c": 1}


def test_one_that_is_added_again_begins_anew() -> None:
    """While a call, and the breaker, of the one that was removed are still held."""
    balancer = LoadBalancer(["a", "b"], breaker=CircuitBreakerConfig(1, 60.0))
    call, breaker = balancer.pick(), balancer.breaker("a")
    balancer.remove("a")
    balancer.add("a", 3)
    balancer.release(call, False, 10)
    assert breaker.state is CircuitState.OPEN
    assert balancer.breaker("a").state is CircuitState.CLOSED
    stats = balancer.get_stats()[1]
    assert (stats.address, stats.active_connections, stats.total_requests, stats.failures, stats.weight) == (
        "a", 0, 0, 0, 3,
    )  # fmt: skip


def test_a_place_is_used_again_once_nobody_refers_to_it() -> None:
    balancer = LoadBalancer(["a", "b"], LoadBalancingStrategy.LEAST_LOADED, breaker=BREAKER)
    kept = balancer.breaker("b")
    for i in range(100):
        balancer.add(f"x{i}")
        balancer.remove(f"x{i}")
    balancer.add("c")
    balancer.remove("b")
    balancer.add("d")
    calls = [balancer.pick() for _ in range(3)]
    assert {call.address for call in calls} == {"a", "c", "d"}
    assert max(call.index for call in calls) < 8
    assert 1 not in {call.index for call in calls}
    kept.force_open()
    assert balancer.breaker("d").state is CircuitState.CLOSED


@EVERY_STRATEGY
def test_it_grows_and_shrinks(strategy: LoadBalancingStrategy) -> None:
    """Over several chunks of memory, with calls in flight all the while."""
    balancer = LoadBalancer(["s0"], strategy, breaker=BREAKER, seed=1)
    calls = []
    for i in range(1, 200):
        balancer.add(f"s{i}", i % 3 + 1)
        calls.append(balancer.pick())
    if strategy is LoadBalancingStrategy.LEAST_LOADED:
        calls += [balancer.pick() for _ in range(2_000)]
        loads = {s.address: s.active_connections / s.weight for s in balancer.get_stats()}
        assert max(loads.values()) - min(loads.values()) <= 2
    for i in range(199):
        balancer.remove(f"s{i}")
    assert addresses_of(balancer, 50) == {"s199"}
    for call in calls:
        balancer.release(call, True, 1)
    assert in_flight(balancer) == {"s199": 0}


def test_the_least_loaded_of_those_whose_breakers_admit(clock: FrozenClock) -> None:
    """Of 300: those that are reset, or whose time has come, are back at once, as the least loaded."""
    addresses = [f"s{i}" for i in range(300)]
    balancer = LoadBalancer(
        addresses, LoadBalancingStrategy.LEAST_LOADED, breaker=CircuitBreakerConfig(1, 10.0, 1)
    )
    for address in addresses[:200]:
        balancer.breaker(address).force_open()
    for address in addresses[200:290]:
        balancer.breaker(address).record_failure()
    calls = [balancer.pick() for _ in range(100)]
    assert {call.address for call in calls} == set(addresses[290:])
    for address in (addresses[63], addresses[64], addresses[199]):
        balancer.breaker(address).reset()
    back = [balancer.pick() for _ in range(30)]
    assert {call.address for call in back} == {addresses[63], addresses[64], addresses[199]}
    clock.advance(balancer.breaker(addresses[289]).retry_after())
    probes = [balancer.pick() for _ in range(90)]
    assert {call.address for call in probes} == set(addresses[200:290])
    for probe in probes:
        balancer.release(probe, True, 1)
    assert {balancer.pick().address for _ in range(500)} == set(addresses[200:290])


@EVERY_STRATEGY
def test_its_breakers_may_have_windows(strategy: LoadBalancingStrategy) -> None:
    """Of seven calls, more than can be told apart without the window that lies behind each endpoint."""
    config = CircuitBreakerConfig(window=Window.COUNT, window_size=7, minimum_calls=7)
    balancer = LoadBalancer([f"s{i}" for i in range(20)], strategy, breaker=config, seed=1)
    while any(stats.failures < 3 for stats in balancer.get_stats()):
        endpoint = balancer.pick()
        failed = balancer.get_stats()[endpoint.index].failures < 3
        balancer.release(endpoint, not failed, 1)
    for address in balancer.addresses:
        breaker = balancer.breaker(address)
        for _ in range(7):
            breaker.record_success()
        states = [breaker.state]
        for _ in range(4):
            breaker.record_failure()
            states.append(breaker.state)
        assert states == [CircuitState.CLOSED] * 4 + [CircuitState.OPEN]


def test_the_last_one_stays() -> None:
    balancer = LoadBalancer(["a", "b"])
    balancer.drain("a")
    balancer.drain("a")
    for change in (balancer.drain, balancer.remove):
        with pytest.raises(
            ConfigError,
            match="address='b': expected one of several that take calls: it is the last",
        ):
            change("b")
    balancer.add("c")
    balancer.remove("b")
    balancer.remove("a")
    assert balancer.addresses == ("c",)


def test_the_address_of_a_change_is_checked() -> None:
    balancer = LoadBalancer(["a", "b"])
    balancer.drain("b")
    for known in ("a", "b"):
        with pytest.raises(
            ConfigError, match=f"address='{known}': expected an address that is not there yet"
        ):
            balancer.add(known)
    for wrong in ("", 5, None, b"c"):
        with pytest.raises(ConfigError, match=r"address=.*: expected a str that is not empty"):
            balancer.add(wrong)  # type: ignore[arg-type]  # what is tested
    for unknown in ("z", "", 5, ["a"]):
        for change in (balancer.drain, balancer.remove, lambda address: balancer.set_weight(address, 2)):
            with pytest.raises(ConfigError, match=r"address=.*: expected one of a, b"):
                change(unknown)  # type: ignore[arg-type]  # what is tested
    assert balancer.addresses == ("a", "b")


def test_there_is_a_limit() -> None:
    balancer = LoadBalancer([str(i) for i in range(MAX_ENDPOINTS)], LoadBalancingStrategy.LEAST_LOADED)
    with pytest.raises(ConfigError, match="at most 65536 endpoints in all"):
        balancer.add("one more")
    balancer.remove("7")
    balancer.add("one more")
    calls = [balancer.pick() for _ in range(MAX_ENDPOINTS)]
    assert len({call.address for call in calls}) == MAX_ENDPOINTS


def test_what_is_held_outlives_the_balancer() -> None:
    balancer = LoadBalancer(["a", "b"], LoadBalancingStrategy.LEAST_LOADED, breaker=BREAKER)
    for i in range(20):
        balancer.add(f"s{i}")
    calls = [balancer.pick() for _ in range(50)]
    breaker = balancer.breaker("s3")
    balancer.remove("s3")
    del balancer
    gc.collect()
    assert len({call.address for call in calls}) == 22
    calls.clear()
    breaker.force_open()
    assert breaker.state is CircuitState.OPEN


@EVERY_STRATEGY
def test_no_call_is_lost_while_endpoints_come_and_go(strategy: LoadBalancingStrategy, hammer: Hammer) -> None:
    """And who is drained gets no new call once `drain` has returned."""
    balancer = LoadBalancer(
        ["s0", "s1", "s2"],
        strategy,
        breaker=CircuitBreakerConfig(2, 0.001, 2),
        outlier=OutlierConfig(interval=0.1),
        slow_start=SlowStartConfig(window=0.1),
    )
    done = Event()
    removed: list[int] = []

    def replace_one(number: int) -> int:
        """Return how many picks this made itself."""
        balancer.add(f"s{number}", number % 5 + 1)
        leaving = balancer.addresses[0]
        balancer.set_weight(leaving, 7)
        balancer.drain(leaving)
        while in_flight(balancer)[leaving] != 0:
            pass
        total = balancer.get_stats()[0].total_requests
        picks = 0
        with suppress(CircuitOpenError):
            for _ in range(5):
                assert balancer.pick().address != leaving
                picks += 1
        assert balancer.get_stats()[0].total_requests == total
        removed.append(total)
        balancer.remove(leaving)
        return picks

    def churn() -> int:
        return sum(replace_one(number) for number in takewhile(lambda _: not done.is_set(), count(3)))

    def work() -> int:
        picked = 0
        for i in range(10_000):
            with suppress(CircuitOpenError):
                endpoint = balancer.pick()
                picked += 1
                balancer.release(endpoint, i % 5 != 0, 7)
        return picked

    with ThreadPoolExecutor(1) as pool:
        churning = pool.submit(churn)
        try:
            picks = sum(hammer(work))
        finally:
            done.set()
        picks += churning.result()
    stats = balancer.get_stats()
    assert len(removed) > 5
    assert sum(removed) + sum(each.total_requests for each in stats) == picks
    assert {each.active_connections for each in stats} == {0}
