"""tai-grpc: service-to-service gRPC at compiled speed."""

from tai_grpc._version import __version__

__all__ = ["__version__"]
