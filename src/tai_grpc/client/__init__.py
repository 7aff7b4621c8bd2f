"""The resilient client, for asyncio and for threads, and the workers that are built on it."""

from tai_grpc.client.blocking import BlockingGrpcClient
from tai_grpc.client.grpc_client import GrpcClient
from tai_grpc.client.stats import ClientStats
from tai_grpc.client.worker import Postpone, Reject, Worker

__all__ = ["BlockingGrpcClient", "ClientStats", "GrpcClient", "Postpone", "Reject", "Worker"]
