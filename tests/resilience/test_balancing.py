from tai_grpc.resilience.balancing import LoadBalancer, LoadBalancingStrategy
from tai_grpc.resilience.circuit_breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState


async def call(address: str) -> bool:
    return address != "10.0.0.2:50051"


async def test_calls_move_away_from_an_endpoint_that_fails() -> None:
    """A pick and a release around each call are all that it takes."""
    addresses = ["10.0.0.1:50051", "10.0.0.2:50051", "10.0.0.3:50051"]
    balancer = LoadBalancer(
        addresses, LoadBalancingStrategy.ROUND_ROBIN, breaker=CircuitBreakerConfig(3, 60.0, 1)
    )
    for _ in range(60):
        endpoint = balancer.pick()
        balancer.release(endpoint, await call(endpoint.address), 250)
    stats = {each.address: each for each in balancer.get_stats()}
    assert stats["10.0.0.2:50051"].failures == stats["10.0.0.2:50051"].total_requests == 3
    assert stats["10.0.0.2:50051"].breaker_state is CircuitState.OPEN
    assert {stats[address].total_requests for address in (addresses[0], addresses[2])} == {28, 29}


def test_its_breakers_are_circuit_breakers() -> None:
    balancer = LoadBalancer(["a"], breaker=CircuitBreakerConfig())
    breaker = balancer.breaker("a")
    assert isinstance(breaker, CircuitBreaker)
    with breaker:
        breaker.force_open()
    assert balancer.get_stats()[0].breaker_state is CircuitState.OPEN
