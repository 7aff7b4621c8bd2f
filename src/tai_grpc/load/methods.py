"""Finds a method and its message types by name, without generated code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from tai_grpc.load.descriptors import Declared, build_pool, parsed, with_imports
from tai_grpc.load.errors import RequestError
from tai_grpc.load.exchange import BlockingChannel
from tai_grpc.load.reflection import Reflection, is_unimplemented
from tai_grpc.status import Metadata
from tai_grpc.tai.v1 import coordinator_pb2, governor_pb2, scheduler_pb2

BUILT_IN: Final[dict[str, ServiceDescriptor]] = {
    service.full_name: service
    for module in (governor_pb2, coordinator_pb2, scheduler_pb2, health_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
}
"""The services that can be called without the server's reflection, by full name."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method as its descriptor says; `pool` holds every type that its messages can be made of."""

    service: str
    name: str
    request_type: type[Message]
    response_type: type[Message]
    client_streaming: bool
    server_streaming: bool
    pool: DescriptorPool

    def __reduce__(self) -> tuple[Callable[..., Method], tuple[str, str, tuple[bytes, ...]]]:
        """Go to another process as the files that declare it."""
        service: ServiceDescriptor = self.pool.FindServiceByName(self.service)
        return _from_files, (self.service, self.name, with_imports(service.file))

    @property
    def full_name(self) -> str:
        """As in "tai.v1.Governor/ProposePolicy"."""
        return f"{self.service}/{self.name}"

    @property
    def path(self) -> str:
        """The HTTP/2 `:path`, as in "/tai.v1.Governor/ProposePolicy"."""
        return f"/{self.full_name}"

    @property
    def kind(self) -> str:
        """One of "unary", "client streaming", "server streaming" and "bidirectional streaming"."""
        match self.client_streaming, self.server_streaming:
            case False, False:
                return "unary"
            case True, False:
                return "client streaming"
            case False, True:
                return "server streaming"
            case _:
                return "bidirectional streaming"


def split_method(name: str) -> tuple[str, str]:
    """Split "pkg.Service/Method", or "pkg.Service.Method", into the service and the method.

    Raises:
        RequestError: `name` is neither.
    """
    plain = name.removeprefix("/")
    service, _, method = plain.partition("/") if "/" in plain else plain.rpartition(".")
    if not service or not method or "/" in method:
        raise RequestError(f"{name!r} is not a method: write it like tai.v1.Governor/ProposePolicy")
    return service, method


def find_method(channel: BlockingChannel, name: str, *, timeout: float, metadata: Metadata = ()) -> Method:
    """Return the method called `name`, from the server's reflection or, when it has none, from `BUILT_IN`.

    `timeout` bounds each question to the server, in seconds.

    Raises:
        RequestError: there is no such service or method; names those that there are.
        grpc.RpcError: the server cannot be asked.
    """
    service_name, method_name = split_method(name)
    reflection = Reflection(channel, timeout=timeout, metadata=metadata)
    try:
        pool = reflection.pool(service_name)
        if pool is None:
            known = reflection.services()
            raise RequestError(f"the server has no service {service_name!r}; it has: {_listed(known)}")
    except grpc.RpcError as error:
        if not is_unimplemented(error):
            raise
        return built_in_method(service_name, method_name)
    try:
        service = pool.FindServiceByName(service_name)
    except KeyError:
        known = reflection.services()
        raise RequestError(f"{service_name!r} is not a service; the server has: {_listed(known)}") from None
    return _method(service, method_name, pool)


def method_of(declared: Declared, name: str, where: str) -> Method:
    """Return the method called `name` of the services that `where` declares.

    Raises:
        RequestError: there is no such service or method; names those that there are.
    """
    service_name, method_name = split_method(name)
    try:
        service = declared.pool.FindServiceByName(service_name)
    except KeyError:
        raise RequestError(
            f"{where} has no service {service_name!r}; it has: {_listed(declared.services)}"
        ) from None
    return _method(service, method_name, declared.pool)


def built_in_method(service_name: str, method_name: str) -> Method:
    """Return a method of `BUILT_IN`.

    Raises:
        RequestError: there is no such service or method; names those that there are.
    """
    if (service := BUILT_IN.get(service_name)) is None:
        raise RequestError(
            f"the server has no reflection, and {service_name!r} is not built in; "
            f"built in are: {_listed(BUILT_IN)}"
        )
    return _method(service, method_name, Default())


def _method(service: ServiceDescriptor, name: str, pool: DescriptorPool) -> Method:
    if (found := service.methods_by_name.get(name)) is None:
        raise RequestError(
            f"{service.full_name} has no method {name!r}; it has: {_listed(service.methods_by_name)}"
        )
    return Method(
        service=service.full_name,
        name=found.name,
        request_type=GetMessageClass(found.input_type),
        response_type=GetMessageClass(found.output_type),
        client_streaming=found.client_streaming,
        server_streaming=found.server_streaming,
        pool=pool,
    )


def _from_files(service: str, method: str, files: tuple[bytes, ...]) -> Method:
    pool = build_pool(parsed(files), service)
    return _method(pool.FindServiceByName(service), method, pool)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
