"""Which endpoint a call goes to: see `LoadBalancer`."""

from tai_grpc._ext.primitives.balancer import Endpoint, EndpointStats, LoadBalancer
from tai_grpc.config import LoadBalancingStrategy

__all__ = ["Endpoint", "EndpointStats", "LoadBalancer", "LoadBalancingStrategy"]
