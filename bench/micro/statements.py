"""Compiled calls, each with a compiled call that does nothing and is made in the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from tai_grpc.config import Jitter, RetryConfig
from tai_grpc.resilience import (
    AdaptiveLimiter,
    Backoff,
    Bulkhead,
    CallOutcome,
    CircuitBreaker,
    CircuitBreakerConfig,
    Counter,
    KeyedTokenBucket,
    LatencyHistogram,
    LoadBalancer,
    LoadBalancingStrategy,
    RetryBudget,
    TokenBucket,
)
from tai_grpc.resilience.backoff import backoff

ENDLESS: Final = 2**31 - 1
JITTER: Final = RetryConfig(jitter=Jitter.FULL)

FEW: Final = 3
MANY: Final = 1_000
"""Endpoints that a pick chooses among."""
BLOCK: Final = "noop.nothing(); noop.three(None, None, None)"
"""What entering a `with` block and leaving it calls."""

Names = Mapping[str, object]


@dataclass(frozen=True)
class Statement:
    """A call as its users write it, what does nothing in its stead, and the objects that it names.

    A no-op is one of `noop`, a `tai_grpc._ext.primitives.noop.Noop`.
    """

    call: str
    noop: str
    names: Callable[[], Names]


def _refusing_breaker() -> Names:
    breaker = CircuitBreaker()
    for _ in range(5):
        breaker.record_failure()
    return {"breaker": breaker}


def _decorated() -> Names:
    @CircuitBreaker()
    def nothing() -> None:
        pass

    return {"decorated": nothing}


def _empty_bucket() -> Names:
    bucket = TokenBucket(rate=0.001, burst=1)
    bucket.try_acquire()
    return {"bucket": bucket}


def _empty_table() -> Names:
    table = KeyedTokenBucket(rate=0.001, burst=1, max_keys=100_000)
    table.try_acquire("user-12345")
    return {"table": table}


def _latencies() -> Names:
    data = np.random.default_rng(1).integers(0, 1_000_000, 100)
    return {"histogram": LatencyHistogram(), "of_100": data}


def _balancer(strategy: LoadBalancingStrategy, endpoints: int, *, weights: bool = False) -> LoadBalancer:
    addresses = {f"s{i}": i % MANY + 1 for i in range(endpoints)}
    return LoadBalancer(
        addresses,
        strategy,
        weights=addresses if weights else None,
        breaker=CircuitBreakerConfig(),
        seed=1,
    )


def _picks(
    name: str, strategy: LoadBalancingStrategy, endpoints: int, *, weights: bool = False
) -> dict[str, Statement]:
    """The pick ends at once: what it returns is dropped."""

    def names() -> Names:
        return {"balancer": _balancer(strategy, endpoints, weights=weights)}

    return {name: Statement("balancer.pick()", "noop.nothing()", names)}


def _sampled() -> Names:
    balancer = _balancer(LoadBalancingStrategy.PEAK_EWMA, FEW)
    for latency_us in range(200, 300):
        balancer.release(balancer.pick(), True, latency_us)
    return {"balancer": balancer}


def pick(strategy: LoadBalancingStrategy, endpoints: int) -> str:
    """Return the name of a strategy's pick among so many."""
    return f"pick of {endpoints:,}, {strategy.value}"


SAMPLED: Final = f"{pick(LoadBalancingStrategy.PEAK_EWMA, FEW)}, latencies known"
PICK_AND_RELEASE: Final = f"pick and release of {FEW}"

BREAKERS: Final = {
    "check": Statement("breaker.is_call_allowed()", "noop.nothing()", lambda: {"breaker": CircuitBreaker()}),
    "success recorded": Statement(
        "breaker.record_success()", "noop.nothing()", lambda: {"breaker": CircuitBreaker()}
    ),
    "permit taken and settled": Statement(
        "breaker.settle(breaker.acquire(), success)",
        "noop.nothing()",
        lambda: {"breaker": CircuitBreaker(), "success": CallOutcome.SUCCESS},
    ),
    "check, open": Statement("breaker.is_call_allowed()", "noop.nothing()", _refusing_breaker),
    "with block": Statement("with breaker: pass", BLOCK, lambda: {"breaker": CircuitBreaker()}),
    "decorated function": Statement("decorated()", "noop.nothing()", _decorated),
}
OTHERS: Final = {
    "token bucket": Statement(
        "bucket.try_acquire()", "noop.optional()", lambda: {"bucket": TokenBucket(rate=1e9, burst=ENDLESS)}
    ),
    "token bucket, empty": Statement("bucket.try_acquire()", "noop.optional()", _empty_bucket),
    "token bucket by key": Statement(
        "table.try_acquire('user-12345')",
        "noop.one('user-12345')",
        lambda: {"table": KeyedTokenBucket(rate=1e9, burst=ENDLESS, max_keys=100_000)},
    ),
    "token bucket by key, empty": Statement(
        "table.try_acquire('user-12345')", "noop.one('user-12345')", _empty_table
    ),
    "histogram record": Statement(
        "histogram.record(12345)", "noop.one(12345)", lambda: {"histogram": LatencyHistogram()}
    ),
    "histogram, 100 at once": Statement("histogram.record_many(of_100)", "noop.one(None)", _latencies),
    "counter": Statement("counter.add()", "noop.optional()", lambda: {"counter": Counter()}),
    "bulkhead": Statement(
        "bulkhead.try_enter(); bulkhead.leave()",
        "noop.nothing(); noop.nothing()",
        lambda: {"bulkhead": Bulkhead(10)},
    ),
    "adaptive limiter": Statement(
        "limiter.try_enter(); limiter.leave(100)",
        "noop.nothing(); noop.one(100)",
        lambda: {"limiter": AdaptiveLimiter()},
    ),
    "retry budget": Statement("budget.try_retry()", "noop.nothing()", lambda: {"budget": RetryBudget()}),
    "retry budget, success": Statement(
        "budget.record_success()", "noop.nothing()", lambda: {"budget": RetryBudget()}
    ),
    "backoff, next": Statement("next(waits)", "noop.nothing()", lambda: {"waits": Backoff(JITTER)}),
    "backoff, one": Statement(
        "backoff(config, 3, 0.0)",
        "noop.three(None, 3, 0.0)",
        lambda: {"backoff": backoff, "config": JITTER},
    ),
}
PICKS_OF_FEW: Final = {
    name: statement
    for strategy in LoadBalancingStrategy
    for name, statement in _picks(pick(strategy, FEW), strategy, FEW).items()
} | {
    SAMPLED: Statement("balancer.pick()", "noop.nothing()", _sampled),
    PICK_AND_RELEASE: Statement(
        "balancer.release(balancer.pick(), True, 250)",
        "noop.three(noop.nothing(), True, 250)",
        lambda: {"balancer": _balancer(LoadBalancingStrategy.ROUND_ROBIN, FEW)},
    ),
}
PICKS_OF_MANY: Final = {
    name: statement
    for strategy in LoadBalancingStrategy
    for name, statement in (
        _picks(pick(strategy, MANY), strategy, MANY)
        | _picks(f"{pick(strategy, MANY)}, by weight", strategy, MANY, weights=True)
    ).items()
}
STATEMENTS: Final = BREAKERS | OTHERS | PICKS_OF_FEW | PICKS_OF_MANY
