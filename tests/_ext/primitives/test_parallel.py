"""What the GIL serialises, these run truly at once: threads in compiled loops that do not hold it.

It is also the proof that the declared interfaces can be cimported by code outside of the package.
"""

import time
from collections import Counter as Tally
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, get_ident
from typing import Any

import numpy as np
import pytest

from tai_grpc._ext.primitives.balancer import LoadBalancer
from tai_grpc._ext.primitives.breaker import CircuitBreaker, CircuitState
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc._ext.primitives.counter import Counter
from tai_grpc._ext.primitives.histogram import LatencyHistogram
from tai_grpc._ext.primitives.limiter import TokenBucket
from tai_grpc._ext.primitives.retry import RetryBudget
from tai_grpc.config import CircuitBreakerConfig, LoadBalancingStrategy, Window

THREADS = 8
Hammer = Callable[[Callable[[], Any]], list[Any]]


@pytest.fixture(scope="module")
def parallel(compiled: Callable[[str], Any]) -> Any:
    """parallel.pyx, compiled."""
    return compiled("parallel")


CONSECUTIVE: dict[str, Any] = {"failure_threshold": 2}
RATE: dict[str, Any] = {"minimum_calls": 6, "failure_rate_threshold": 0.3}
COUNT: dict[str, Any] = {"window": Window.COUNT, "window_size": 100, **RATE}
TIME: dict[str, Any] = {"window": Window.TIME, "window_size": 1, **RATE}
EVERY_MODE = pytest.mark.parametrize("mode", [CONSECUTIVE, COUNT, TIME], ids=["consecutive", "count", "time"])


@pytest.mark.parametrize("probes", [1, 3, 255])
def test_half_open_admits_its_total(parallel: Any, clock: FrozenClock, hammer: Hammer, probes: int) -> None:
    for _ in range(50):
        breaker = CircuitBreaker(CircuitBreakerConfig(1, 1.0, probes))
        breaker.record_failure()
        clock.advance(breaker.retry_after())
        assert sum(hammer(lambda: parallel.ask(breaker, 1_000))) == probes  # noqa: B023 - called in this turn


@EVERY_MODE
def test_no_era_of_half_open_admits_more_than_its_total(
    parallel: Any, hammer: Hammer, mode: dict[str, Any]
) -> None:
    """While probes succeed, fail and come late; and each transition is told to exactly one thread."""
    probes = 3
    breaker = CircuitBreaker(CircuitBreakerConfig(open_timeout=0.001, half_open_max_calls=probes, **mode))
    results: dict[int, tuple[Any, Any, Any]] = {}

    def work() -> None:
        permits, probing = np.full(1_000_000, -1), np.full(1_000_000, -1)
        changes = np.zeros((8, 8), dtype=np.int64)
        parallel.call(breaker, permits, probing, changes)
        results[get_ident()] = permits, probing, changes

    hammer(work)
    permits = Tally(permit for each, _, _ in results.values() for permit in each.tolist() if permit >= 0)
    began = [era for _, each, _ in results.values() for era in each.tolist() if era >= 0]
    changes = sum(each for _, _, each in results.values())
    assert len(began) == len(set(began)) > 3
    assert all(1 <= permits[era] <= probes for era in began)
    for state in CircuitState:
        entered = changes[:, state].sum() + (state is CircuitState.CLOSED)
        assert entered - changes[state].sum() == (state is breaker.state)


def watched(window: Window, size: int) -> CircuitBreaker:
    """A breaker that counts and never opens; a call is slow over 1.5 s."""
    breaker = CircuitBreaker(CircuitBreakerConfig(window=window, window_size=size, slow_call_duration=1.5))
    breaker.metrics_only()
    return breaker


def test_a_window_of_calls_counts_each(parallel: Any, hammer: Hammer) -> None:
    breaker = watched(Window.COUNT, 9_600)
    hammer(lambda: parallel.report(breaker, 1_200))
    assert breaker.metrics() == (9_600, 3_200, 1_920, 1 / 3, 0.2)


def test_a_window_of_calls_holds_its_size_however_often_it_went_round(parallel: Any, hammer: Hammer) -> None:
    """Threads that stand still for a whole round leave old results behind, but never more or fewer."""
    breaker = watched(Window.COUNT, 100)
    hammer(lambda: parallel.report(breaker, 1_000_000))
    seen = breaker.metrics()
    assert seen.calls == 100
    assert 0 <= seen.failures <= 100
    for _ in range(100):
        breaker.record_success()
    assert breaker.metrics() == (100, 0, 0, 0.0, 0.0)


def test_a_window_of_seconds_counts_each(parallel: Any, hammer: Hammer) -> None:
    breaker = watched(Window.TIME, 3600)
    hammer(lambda: parallel.report(breaker, 999_990))
    assert breaker.metrics() == (7_999_920, 2_666_640, 1_599_984, 1 / 3, 0.2)


def test_a_bucket_of_a_window_is_full_at_16_777_215_calls_and_keeps_its_rates(
    parallel: Any, clock: FrozenClock, hammer: Hammer
) -> None:
    breaker = watched(Window.TIME, 1)
    hammer(lambda: parallel.report(breaker, 2_200_000))
    full = breaker.metrics()
    assert full.calls == 2**24 - 1
    assert full.failure_rate == pytest.approx(1 / 3, rel=1e-4)
    assert full.slow_call_rate == pytest.approx(0.2, rel=1e-4)
    for _ in range(100):
        breaker.record_failure()
    assert breaker.metrics() == full
    clock.advance(0.5)
    breaker.record_failure()
    assert breaker.metrics().calls == 2**24


@pytest.mark.parametrize(("window", "size"), [(Window.COUNT, 1_000), (Window.TIME, 3600)])
def test_what_a_reset_ends_leaks_into_no_later_era(
    parallel: Any, hammer: Hammer, window: Window, size: int
) -> None:
    """Seven threads record while one begins new eras; after the last of them, only later calls count."""
    breaker = watched(window, size)
    turn = iter(range(THREADS))

    def work() -> None:
        if next(turn) > 0:
            parallel.report(breaker, 100_000)
            return
        for _ in range(10_000):
            breaker.metrics_only()

    hammer(work)
    breaker.metrics_only()
    assert breaker.metrics().calls == 0
    parallel.report(breaker, 900)
    assert breaker.metrics() == (900, 300, 180, 1 / 3, 0.2)


def test_a_bucket_is_emptied_exactly(parallel: Any, clock: FrozenClock, hammer: Hammer) -> None:
    bucket = TokenBucket(rate=1.0, burst=8_000_000)
    assert sum(hammer(lambda: parallel.take(bucket, 2_000_000))) == 8_000_000


def test_a_bucket_is_not_over_admitted(parallel: Any, hammer: Hammer) -> None:
    bucket = TokenBucket(rate=1_000_000.0, burst=100)
    before = time.monotonic_ns()
    taken = sum(hammer(lambda: parallel.take(bucket, 200_000)))
    elapsed = (time.monotonic_ns() - before) / 1e9
    assert 100 <= taken <= 100 + 1_000_000 * elapsed


def test_no_count_is_lost(parallel: Any, hammer: Hammer) -> None:
    counter, histogram = Counter(), LatencyHistogram()
    hammer(lambda: parallel.count(counter, histogram, 1_000_000))
    assert counter.value == histogram.count == 8_000_000
    assert set(histogram.counts[:2048].tolist()) == {8}


def test_no_token_of_a_budget_is_lost(parallel: Any, hammer: Hammer) -> None:
    budget = RetryBudget(max_tokens=1000, token_ratio=1.0)
    for _ in range(500):
        budget.record_failure()
    # As many come as go, and with 8 at most under way none of it meets an end of the budget.
    hammer(lambda: parallel.spend(budget, 500_000))
    assert budget.tokens == 500.0


@pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))
def test_no_call_of_a_balancer_is_lost(
    parallel: Any, hammer: Hammer, strategy: LoadBalancingStrategy
) -> None:
    balancer = LoadBalancer(["a", "b", "c"], strategy, breaker=CircuitBreakerConfig(2, 0.001, 2))
    refused = sum(hammer(lambda: parallel.balance(balancer, 1_000_000)))
    stats = balancer.get_stats()
    assert sum(each.total_requests for each in stats) == 8_000_000 - refused
    assert [each.active_connections for each in stats] == [0, 0, 0]


@pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))
def test_who_is_drained_is_picked_no_more_while_others_pick(
    parallel: Any, hammer: Hammer, strategy: LoadBalancingStrategy
) -> None:
    """Endpoints are added and drained while 8 threads pick from tables that may be old: no call is lost."""
    balancer = LoadBalancer(["a", "b", "c"], strategy, breaker=CircuitBreakerConfig(2, 0.001, 2))
    totals: dict[str, int] = {}
    done = Event()

    def churn() -> None:
        for number in range(400):
            if done.is_set():
                return
            leaving = balancer.addresses[number]
            balancer.add(f"s{number}", number % 7 + 1)
            balancer.drain(leaving)
            while (stats := balancer.get_stats()[number]).active_connections != 0:
                pass
            totals[leaving] = stats.total_requests

    with ThreadPoolExecutor(1) as pool:
        churning = pool.submit(churn)
        try:
            refused = sum(hammer(lambda: sum(parallel.balance(balancer, 1_000) for _ in range(100))))
        finally:
            done.set()
        churning.result()
    stats = {each.address: each for each in balancer.get_stats()}
    assert totals
    assert {address: stats[address].total_requests for address in totals} == totals
    assert sum(each.total_requests for each in stats.values()) == 800_000 - refused
    assert {each.active_connections for each in stats.values()} == {0}
