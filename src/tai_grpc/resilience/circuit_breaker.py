"""The circuit breaker: see `CircuitBreaker`."""

from tai_grpc._ext.primitives.breaker import CircuitBreaker, CircuitMetrics, CircuitState
from tai_grpc.config import CallOutcome, CircuitBreakerConfig, Window

__all__ = [
    "CallOutcome",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitMetrics",
    "CircuitState",
    "Window",
]
