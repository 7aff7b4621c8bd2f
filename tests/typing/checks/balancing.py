# pyright: strict
from typing import reveal_type

from tai_grpc import CircuitBreakerConfig, LoadBalancer, LoadBalancingStrategy

balancer = LoadBalancer(
    ["a:1", "b:1"],
    LoadBalancingStrategy.LEAST_LOADED,
    weights={"a:1": 2},
    breaker=CircuitBreakerConfig(),
    seed=1,
)
reveal_type(balancer)  # reveals: LoadBalancer
reveal_type(balancer.addresses)  # reveals: tuple[str, ...]
reveal_type(balancer.strategy)  # reveals: LoadBalancingStrategy
reveal_type(balancer.breaker("a:1"))  # reveals: CircuitBreaker
reveal_type(balancer.add("c:1", weight=2))  # reveals: None
reveal_type(balancer.set_weight("c:1", 3))  # reveals: None
reveal_type(balancer.drain("c:1"))  # reveals: None
reveal_type(balancer.remove("c:1"))  # reveals: None

endpoint = balancer.pick()
reveal_type(endpoint)  # reveals: Endpoint
reveal_type(endpoint.address)  # reveals: str
reveal_type(endpoint.index)  # reveals: int
reveal_type(balancer.release(endpoint, success=True, latency_us=250))  # reveals: None
reveal_type(balancer.release(endpoint, None, 250))  # reveals: None

stats = balancer.get_stats()
reveal_type(stats)  # reveals: list[EndpointStats]
reveal_type(stats[0].address)  # reveals: str
reveal_type(stats[0].active_connections)  # reveals: int
reveal_type(stats[0].total_requests)  # reveals: int
reveal_type(stats[0].failures)  # reveals: int
reveal_type(stats[0].ejected)  # reveals: bool
reveal_type(stats[0].breaker_state)  # reveals: CircuitState
reveal_type(stats[0].latency_ewma_us)  # reveals: float
reveal_type(stats[0].weight)  # reveals: int
reveal_type(stats[0].draining)  # reveals: bool

LoadBalancer([1, 2])  # error
LoadBalancer(["a:1"], "round_robin")  # error: a LoadBalancingStrategy
LoadBalancer(["a:1"], breaker=3)  # error
balancer.release("a:1", True, 250)  # error: what pick returned
balancer.release(endpoint, True)  # error: and how long it took
