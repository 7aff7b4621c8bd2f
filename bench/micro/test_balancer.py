from collections.abc import Callable

import pytest

from tai_grpc.resilience import CircuitBreakerConfig, LoadBalancer, LoadBalancingStrategy


@pytest.mark.parametrize("strategy", list(LoadBalancingStrategy))
def test_pick_of_3(per_call: Callable[..., None], strategy: LoadBalancingStrategy) -> None:
    balancer = LoadBalancer(["a", "b", "c"], strategy, breaker=CircuitBreakerConfig())
    per_call(f"{strategy.value}.pick()", "noop.nothing()", at_most=3, **{strategy.value: balancer})


def test_pick_of_3_whose_latencies_are_known(per_call: Callable[..., None]) -> None:
    balancer = LoadBalancer(["a", "b", "c"], LoadBalancingStrategy.PEAK_EWMA, breaker=CircuitBreakerConfig())
    for latency_us in range(200, 300):
        balancer.release(balancer.pick(), True, latency_us)
    per_call("sampled.pick()", "noop.nothing()", at_most=3, sampled=balancer)


def test_pick_and_release_of_3(per_call: Callable[..., None]) -> None:
    balancer = LoadBalancer(["a", "b", "c"], breaker=CircuitBreakerConfig())
    statement = "balancer.release(balancer.pick(), True, 250)"
    per_call(statement, "noop.three(noop.nothing(), True, 250)", balancer=balancer)
