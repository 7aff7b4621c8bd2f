"""The circuit breaker: see `CircuitBreaker`."""

from tai_grpc._ext.primitives.breaker import CircuitBreaker, CircuitMetrics, CircuitState
from tai_grpc.config import CircuitBreakerConfig, Outcome, Window

__all__ = ["CircuitBreaker", "CircuitBreakerConfig", "CircuitMetrics", "CircuitState", "Outcome", "Window"]
