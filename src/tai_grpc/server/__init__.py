"""The server side: GrpcServer and the layers around every handler."""

from tai_grpc.server.grpc_server import GrpcServer

__all__ = ["GrpcServer"]
