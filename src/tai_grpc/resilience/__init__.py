"""Breakers, budgets, limits and balancing: compiled, safe from any number of threads, usable without gRPC."""

from tai_grpc.resilience.balancing import Endpoint, EndpointStats, LoadBalancer, LoadBalancingStrategy
from tai_grpc.resilience.budget import RetryBudget, RetryBudgetConfig
from tai_grpc.resilience.circuit_breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState, Outcome

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitState",
    "Endpoint",
    "EndpointStats",
    "LoadBalancer",
    "LoadBalancingStrategy",
    "Outcome",
    "RetryBudget",
    "RetryBudgetConfig",
]
