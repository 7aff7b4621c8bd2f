"""The server side: GrpcServer, the layers around every handler, and workers that share a port."""

from tai_grpc.server.counts import ServerStats
from tai_grpc.server.grpc_server import GrpcServer
from tai_grpc.server.workers import run_workers

__all__ = ["GrpcServer", "ServerStats", "run_workers"]
