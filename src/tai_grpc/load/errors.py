"""What can be wrong before the first call is sent."""

from __future__ import annotations

from tai_grpc.errors import TaiGrpcError


class RequestError(TaiGrpcError, ValueError):
    """The call cannot be made as it was asked for: an unknown method, or data that does not fit it."""


class UnreachableError(TaiGrpcError, ConnectionError):
    """A host cannot be connected to. Names the host and why."""


class EngineProcessError(TaiGrpcError):
    """One of the processes that make a load together cannot do its part."""
