"""Which endpoint a call goes to: see `LoadBalancer`."""

from tai_grpc._ext.primitives.balancer import Endpoint, EndpointStats, LoadBalancer
from tai_grpc.config import (
    FailurePercentageEjection,
    LoadBalancingStrategy,
    OutlierConfig,
    SlowStartConfig,
    SuccessRateEjection,
)

__all__ = [
    "Endpoint",
    "EndpointStats",
    "FailurePercentageEjection",
    "LoadBalancer",
    "LoadBalancingStrategy",
    "OutlierConfig",
    "SlowStartConfig",
    "SuccessRateEjection",
]
