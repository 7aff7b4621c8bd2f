"""Breakers, budgets, limits and balancing: compiled, safe from any number of threads, usable without gRPC."""

from tai_grpc._ext.primitives.counter import Counter
from tai_grpc._ext.primitives.histogram import LatencyHistogram
from tai_grpc.resilience.arena import Arena
from tai_grpc.resilience.backoff import Backoff
from tai_grpc.resilience.balancing import (
    Endpoint,
    EndpointStats,
    FailurePercentageEjection,
    LoadBalancer,
    LoadBalancingStrategy,
    OutlierConfig,
    SlowStartConfig,
    SuccessRateEjection,
)
from tai_grpc.resilience.budget import RetryBudget, RetryBudgetConfig
from tai_grpc.resilience.circuit_breaker import (
    CallOutcome,
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitMetrics,
    CircuitState,
    Window,
)
from tai_grpc.resilience.concurrency import AdaptiveLimiter, AdaptiveLimiterConfig, Bulkhead
from tai_grpc.resilience.limits import KeyedTokenBucket, TokenBucket

__all__ = [
    "AdaptiveLimiter",
    "AdaptiveLimiterConfig",
    "Arena",
    "Backoff",
    "Bulkhead",
    "CallOutcome",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitMetrics",
    "CircuitState",
    "Counter",
    "Endpoint",
    "EndpointStats",
    "FailurePercentageEjection",
    "KeyedTokenBucket",
    "LatencyHistogram",
    "LoadBalancer",
    "LoadBalancingStrategy",
    "OutlierConfig",
    "RetryBudget",
    "RetryBudgetConfig",
    "SlowStartConfig",
    "SuccessRateEjection",
    "TokenBucket",
    "Window",
]
