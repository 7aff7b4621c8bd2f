"""Server reflection that finds methods too.

The protocol lets a client ask for "package.service.method", as ghz does; protobuf's pool knows no methods.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import Default, DescriptorPool
from grpc_reflection.v1alpha import reflection


class _WithMethods:
    """A pool, and the names of its services' methods."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - the pool's own name
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            return found.methods_by_name[method].containing_service.file


def add_reflection(names: Iterable[str], server: grpc.aio.Server) -> None:
    """Serve the descriptors of services that are known by their full names."""
    reflection.enable_server_reflection(names, server, pool=cast(DescriptorPool, _WithMethods(Default())))
