"""Breakers, budgets, limits and balancing: compiled, safe from any number of threads, usable without gRPC."""

from tai_grpc._ext.primitives.counter import Counter
from tai_grpc._ext.primitives.histogram import LatencyHistogram
from tai_grpc.resilience.balancing import Endpoint, EndpointStats, LoadBalancer, LoadBalancingStrategy
from tai_grpc.resilience.budget import RetryBudget, RetryBudgetConfig
from tai_grpc.resilience.circuit_breaker import CircuitBreaker, CircuitBreakerConfig, CircuitState, Outcome
from tai_grpc.resilience.limits import TokenBucket

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitState",
    "Counter",
    "Endpoint",
    "EndpointStats",
    "LatencyHistogram",
    "LoadBalancer",
    "LoadBalancingStrategy",
    "Outcome",
    "RetryBudget",
    "RetryBudgetConfig",
    "TokenBucket",
]
