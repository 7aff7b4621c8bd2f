"""tai-grpc: service-to-service gRPC, and the compiled resilience primitives that it stands on.

The primitives load without grpc; what needs it is loaded when it is first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tai_grpc._version import __version__
from tai_grpc.config import (
    AdaptiveLimiterConfig,
    CircuitBreakerConfig,
    FailurePercentageEjection,
    GrpcClientConfig,
    GrpcServerConfig,
    HedgingPolicy,
    Jitter,
    LoadBalancingStrategy,
    OutlierConfig,
    RetryBudgetConfig,
    RetryConfig,
    SlowStartConfig,
    StoreLimits,
    SuccessRateEjection,
    TimeoutConfig,
    Window,
)
from tai_grpc.errors import (
    ArenaError,
    CircuitOpenError,
    ConcurrencyLimitedError,
    ConfigError,
    DeadlineError,
    RateLimitedError,
    StoreFullError,
    StoreUnavailableError,
    TaiGrpcError,
)
from tai_grpc.resilience import (
    AdaptiveLimiter,
    Arena,
    Backoff,
    Bulkhead,
    CallOutcome,
    CircuitBreaker,
    CircuitMetrics,
    CircuitState,
    Counter,
    Endpoint,
    EndpointStats,
    KeyedTokenBucket,
    LatencyHistogram,
    LoadBalancer,
    RetryBudget,
    TokenBucket,
)

if TYPE_CHECKING:
    from tai_grpc.client import BlockingGrpcClient, ClientStats, GrpcClient, Postpone, Reject, Worker
    from tai_grpc.server import GrpcServer, ServerStats, run_workers
    from tai_grpc.status import CallError

_NEEDS_GRPC = {
    "BlockingGrpcClient": "tai_grpc.client",
    "CallError": "tai_grpc.status",
    "ClientStats": "tai_grpc.client",
    "GrpcClient": "tai_grpc.client",
    "GrpcServer": "tai_grpc.server",
    "Postpone": "tai_grpc.client",
    "Reject": "tai_grpc.client",
    "ServerStats": "tai_grpc.server",
    "Worker": "tai_grpc.client",
    "run_workers": "tai_grpc.server",
}

__all__ = [
    "AdaptiveLimiter",
    "AdaptiveLimiterConfig",
    "Arena",
    "ArenaError",
    "Backoff",
    "BlockingGrpcClient",
    "Bulkhead",
    "CallError",
    "CallOutcome",
    "CircuitBreaker",
    "CircuitBreakerConfig",
    "CircuitMetrics",
    "CircuitOpenError",
    "CircuitState",
    "ClientStats",
    "ConcurrencyLimitedError",
    "ConfigError",
    "Counter",
    "DeadlineError",
    "Endpoint",
    "EndpointStats",
    "FailurePercentageEjection",
    "GrpcClient",
    "GrpcClientConfig",
    "GrpcServer",
    "GrpcServerConfig",
    "HedgingPolicy",
    "Jitter",
    "KeyedTokenBucket",
    "LatencyHistogram",
    "LoadBalancer",
    "LoadBalancingStrategy",
    "OutlierConfig",
    "Postpone",
    "RateLimitedError",
    "Reject",
    "RetryBudget",
    "RetryBudgetConfig",
    "RetryConfig",
    "ServerStats",
    "SlowStartConfig",
    "StoreFullError",
    "StoreLimits",
    "StoreUnavailableError",
    "SuccessRateEjection",
    "TaiGrpcError",
    "TimeoutConfig",
    "TokenBucket",
    "Window",
    "Worker",
    "__version__",
    "run_workers",
]


if not TYPE_CHECKING:  # with it, type checkers would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _NEEDS_GRPC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_NEEDS_GRPC[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
