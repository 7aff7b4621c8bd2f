"""A pick's cost does not grow with the endpoints, or by their logarithm when it is the least loaded."""

from collections.abc import Callable
from math import log

import pytest

from tai_grpc.resilience import CircuitBreakerConfig, LoadBalancer, LoadBalancingStrategy


@pytest.mark.parametrize("endpoints", [3, 1_000])
@pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))
def test_pick(per_call: Callable[..., None], strategy: LoadBalancingStrategy, endpoints: int) -> None:
    """The pick ends at once: `pick()` is dropped."""
    addresses = [f"s{i}" for i in range(endpoints)]
    balancer = LoadBalancer(addresses, strategy, breaker=CircuitBreakerConfig(), seed=1)
    name = f"{strategy.value}_of_{endpoints}"
    # The exact least loaded one is found in a tree: at most as the logarithm grows, which is 6.3 times.
    at_most = log(1_000) / log(3) if strategy is LoadBalancingStrategy.LEAST_LOADED else 2
    target = {} if endpoints == 3 else {"at_most": at_most, "of": f"{strategy.value}_of_3.pick()"}
    per_call(f"{name}.pick()", "noop.nothing()", **target, **{name: balancer})


@pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))
def test_pick_by_weight(per_call: Callable[..., None], strategy: LoadBalancingStrategy) -> None:
    weights = {f"s{i}": i % 1_000 + 1 for i in range(1_000)}
    balancer = LoadBalancer(weights, strategy, weights=weights, breaker=CircuitBreakerConfig(), seed=1)
    name = f"{strategy.value}_of_1000_by_weight"
    per_call(f"{name}.pick()", "noop.nothing()", **{name: balancer})
