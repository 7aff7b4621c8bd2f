"""grpc.aio's names on the native transport. What works with grpc.aio works after a change of the import."""

from grpc.aio import (
    EOF,
    AbortError,
    BaseError,
    InternalError,
    Metadata,
    ServerInterceptor,
    ServicerContext,
    UsageError,
)

from tai_grpc._ext.aio.context import ServicerContext as _NativeContext
from tai_grpc.aio._server import Server, server
from tai_grpc.aio._server_credentials import (
    ServerCertificateConfiguration,
    ServerCredentials,
    dynamic_ssl_server_credentials,
    ssl_server_certificate_configuration,
    ssl_server_credentials,
)

__all__ = [
    "EOF",
    "AbortError",
    "BaseError",
    "InternalError",
    "Metadata",
    "Server",
    "ServerCertificateConfiguration",
    "ServerCredentials",
    "ServerInterceptor",
    "ServicerContext",
    "UsageError",
    "dynamic_ssl_server_credentials",
    "server",
    "ssl_server_certificate_configuration",
    "ssl_server_credentials",
]

ServicerContext.register(_NativeContext)
