"""Every operation is there for code without the GIL, and does what the Python one does: without_gil.pyx."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from tai_grpc._ext.primitives.balancer import LoadBalancer
from tai_grpc._ext.primitives.breaker import CircuitBreaker
from tai_grpc._ext.primitives.clock import FrozenClock
from tai_grpc._ext.primitives.concurrency import AdaptiveLimiter, Bulkhead
from tai_grpc._ext.primitives.counter import Counter
from tai_grpc._ext.primitives.histogram import LatencyHistogram
from tai_grpc._ext.primitives.keyed import KeyedTokenBucket
from tai_grpc._ext.primitives.limiter import TokenBucket
from tai_grpc._ext.primitives.retry import RetryBudget
from tai_grpc.config import (
    AdaptiveLimiterConfig,
    CallOutcome,
    CircuitBreakerConfig,
    Jitter,
    LoadBalancingStrategy,
    RetryConfig,
    Window,
)
from tai_grpc.resilience.backoff import backoff

LAYOUT = (1, 1000, 2)


@pytest.fixture(scope="module")
def free(compiled: Callable[[str], Any]) -> Any:
    """without_gil.pyx, compiled."""
    return compiled("without_gil")


@pytest.mark.parametrize("window", list(Window))
def test_a_breaker(free: Any, clock: FrozenClock, window: Window) -> None:
    config = CircuitBreakerConfig(open_timeout=1.0, slow_call_duration=1.0)
    if window is not Window.CONSECUTIVE:
        config = replace(config, window=window, window_size=10, minimum_calls=5)
    one, other = CircuitBreaker(config), CircuitBreaker(config)
    random = Random(1)
    for _ in range(300):
        outcome, seconds = random.choice(list(CallOutcome)), random.choice([None, 0.5, 2.0])
        duration_ns = -1 if seconds is None else round(seconds * 1e9)
        permit = other.acquire()
        assert free.breaker_call(one, outcome, duration_ns) == permit
        if permit >= 0:
            other.settle(permit, outcome, seconds)
        if random.randrange(20) == 0:
            name = random.choice(list(free.FORCED))
            free.breaker_force(one, free.FORCED[name])
            getattr(other, name)()
        clock.advance(random.choice([0.0, 0.01, 0.7]))
        admits, wait_ns, _, counts = free.breaker_knows(one)
        assert free.breaker_knows(one) == free.breaker_knows(other)
        assert (wait_ns * 1e-9 if wait_ns >= 0 else float("inf")) == other.retry_after()
        assert admits == (wait_ns == 0)
        assert counts == other.metrics()[:3]
        assert one.state is other.state


def test_buckets(free: Any, clock: FrozenClock) -> None:
    bucket, table = TokenBucket(1.0, 3), KeyedTokenBucket(1.0, 3, 10)
    for made, call in ((bucket, free.bucket), (table, lambda made, n: free.keyed(made, b"key", n))):
        assert call(made, 2) == (0, 1_000_000_000)
        assert call(made, 2) == (1_000_000_000, 1_000_000_000)
    assert bucket.wait_time(3) == 2.0
    assert table.wait_time(b"key", 3) == 2.0


def test_limits_of_concurrency(free: Any) -> None:
    bulkhead = Bulkhead(3)
    limiter = AdaptiveLimiter(AdaptiveLimiterConfig(initial_limit=2, min_limit=1, max_limit=4))
    assert free.bulkhead(bulkhead, 5) == 3
    assert free.adaptive(limiter, 5) == 2
    assert (bulkhead.in_flight, limiter.in_flight) == (2, 1)


def test_a_budget_and_a_counter(free: Any) -> None:
    budget, counter = RetryBudget(10, 0.5), Counter()
    assert free.budget(budget, 4, 1)
    assert budget.tokens == 6.5
    assert not free.budget(budget, 2, 0)
    assert free.counter(counter, 5) == counter.value == 5


@pytest.mark.parametrize("jitter", list(Jitter))
def test_a_backoff(free: Any, jitter: Jitter) -> None:
    config = RetryConfig(initial_backoff=0.5, max_backoff=3.0, jitter=jitter)
    for retry in (1, 2, 3, 4, 2_000):
        (low, high), waits = free.wait(config, retry, 0.7)
        drawn: list[tuple[float, float]] = []

        def least(one: float, other: float, drawn: list[tuple[float, float]] = drawn) -> float:
            drawn.append((one, other))
            return one

        assert waits == (
            backoff(config, retry, 0.7, least),
            backoff(config, retry, 0.7, lambda _, other: other),
        )
        assert drawn == ([] if jitter is Jitter.NONE else [(low, high)])


def test_a_histogram(free: Any) -> None:
    one, other = LatencyHistogram(*LAYOUT), LatencyHistogram(*LAYOUT)
    for value in (3, 100, 101, 999, 5_000):
        free.record(one, value, 90)
        other.record(value)
        other.record_corrected(value, 90)
    assert free.read(one) == free.read(other)
    assert free.read(one) == (
        one.count,
        one.mean,
        one.min,
        one.max,
        one.percentile(50),
        one.percentiles([50, 99]),
    )
    few = LatencyHistogram(1, 5_000, 2)
    few.record_many([100, 2_000])
    # Merged and taken away again; the second time there is one of 2,000 too few, and nothing changes.
    before, clamped = one.counts.copy(), one.clamped
    merged, first, second = free.combine(one, few, np.zeros(one.counts.size + 1, dtype=np.int64))
    assert (merged, first) == (True, -1)
    assert second == -1
    one.merge(few)
    assert np.array_equal(one.counts, before)
    assert one.clamped == clamped
    assert free.combine(few, one, np.zeros(few.counts.size + 1, dtype=np.int64))[2] >= 0
    into = LatencyHistogram(*LAYOUT)
    free.move(one, into)
    assert np.array_equal(into.counts, before)
    assert (into.clamped, one.clamped, one.count) == (clamped, 0, 0)
    free.forget(into)
    assert (into.clamped, into.count) == (0, 0)


@pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))
def test_picks_with_and_without_the_gil_are_counted_together(
    free: Any, strategy: LoadBalancingStrategy
) -> None:
    balancer = LoadBalancer(["a", "b", "c"], strategy, breaker=CircuitBreakerConfig())
    held = [balancer.pick() for _ in range(30)]
    taken = [free.Taken(balancer) for _ in range(30)]
    stats = balancer.get_stats()
    assert sum(each.active_connections for each in stats) == 60
    if strategy in (LoadBalancingStrategy.ROUND_ROBIN, LoadBalancingStrategy.LEAST_LOADED):
        assert {each.total_requests for each in stats} == {20}
    for pick in taken:
        assert pick.in_flight() == balancer.get_stats()[pick.index].active_connections
        pick.release(CallOutcome.SUCCESS, 10)
    for endpoint in held:
        balancer.release(endpoint, False, 10)
    stats = balancer.get_stats()
    assert {each.active_connections for each in stats} == {0}
    assert sum(each.failures for each in stats) == 30
    assert sum(each.total_requests for each in stats) == 60


def test_a_place_goes_to_nobody_else_while_a_call_without_the_gil_is_in_flight(free: Any) -> None:
    """Whoever forgot to keep the table spoils no other endpoint's count."""
    balancer = LoadBalancer(["a", "b"], LoadBalancingStrategy.ROUND_ROBIN)
    taken = free.Taken(balancer)
    taken.forget_table()
    index, address = taken.index, balancer.addresses[taken.index]
    balancer.remove(address)
    for number in range(20):
        balancer.add(f"s{number}")
        assert balancer.get_stats()[-1][1:4] == (0, 0, 0)
    picked = {balancer.pick().index for _ in range(100)}
    assert len(picked) == 21
    assert index not in picked
    taken.release(CallOutcome.SUCCESS, 1)
    for number in range(20, 40):
        balancer.add(f"s{number}")
        assert balancer.get_stats()[-1][1:4] == (0, 0, 0)
    assert index in {balancer.pick().index for _ in range(200)}
