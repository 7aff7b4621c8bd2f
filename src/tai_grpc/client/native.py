"""The client's unary calls on the native transport: compiled from the stub to the connection.

Imported only where that transport is built.
"""

from __future__ import annotations

from tai_grpc._ext.aio.dispatcher import Dispatcher
from tai_grpc._ext.aio.resilient import Caller, ResilientMethod
from tai_grpc.client.endpoints import Endpoints
from tai_grpc.client.invocation import call_error
from tai_grpc.client.layers import Layers
from tai_grpc.transport.base import Reply
from tai_grpc.transport.native import NativeTransport

__all__ = ["Caller", "NativeTransport", "ResilientMethod", "make_caller"]


def make_caller(layers: Layers, endpoints: Endpoints, max_calls: int) -> Caller:
    """Return what makes the unary calls of a client whose endpoints have native transports."""

    def find(address: str) -> Dispatcher:
        transport = endpoints.transport(address)
        if not isinstance(transport, NativeTransport):
            raise TypeError(f"{address} has a transport of another kind")
        return transport.dispatcher

    caller = Caller(layers, reply=Reply, error=call_error, find=find, max_calls=max_calls)
    endpoints.on_probe = caller.forget
    return caller
