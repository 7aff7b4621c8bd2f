"""The circuit breaker: see `CircuitBreaker`."""

from tai_grpc._ext.primitives.breaker import CircuitBreaker, CircuitState, Outcome
from tai_grpc.config import CircuitBreakerConfig

__all__ = ["CircuitBreaker", "CircuitBreakerConfig", "CircuitState", "Outcome"]
