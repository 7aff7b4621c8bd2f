"""grpc.aio's names on the native transport: change `from grpc import aio` to `from tai_grpc import aio`.

What is a class to derive from, to catch or to check against is grpc.aio's own, so code that takes it from
there keeps working; what does something is this package's. The credentials that `grpc` itself has
(`grpc.ssl_...`) are opaque objects of grpcio's core: their makers are here, under the same names.
"""

from importlib.util import find_spec

from grpc import (
    access_token_call_credentials,
    composite_call_credentials,
    metadata_call_credentials,
)
from grpc.aio import (
    EOF,
    AbortError,
    AioRpcError,
    BaseError,
    Call,
    ClientCallDetails,
    ClientInterceptor,
    InternalError,
    Metadata,
    RpcContext,
    ServerInterceptor,
    ServicerContext,
    StreamStreamCall,
    StreamStreamClientInterceptor,
    StreamStreamMultiCallable,
    StreamUnaryCall,
    StreamUnaryClientInterceptor,
    StreamUnaryMultiCallable,
    UnaryStreamCall,
    UnaryStreamClientInterceptor,
    UnaryStreamMultiCallable,
    UnaryUnaryCall,
    UnaryUnaryClientInterceptor,
    UnaryUnaryMultiCallable,
    UsageError,
    init_grpc_aio,
    shutdown_grpc_aio,
)

if find_spec("tai_grpc._ext.aio.server") is None:
    raise ImportError(
        "tai_grpc.aio: this build of tai-grpc is without the native transport; install libnghttp2-dev"
        " (Debian) or nghttp2-devel (Fedora) and pkg-config, and build it again with TAI_GRPC_NATIVE=yes"
    )

from tai_grpc._ext.aio.context import ServicerContext as _NativeContext
from tai_grpc.aio._blocking import BlockingChannel, blocking_channel
from tai_grpc.aio._blocking_calls import BlockingRpcError
from tai_grpc.aio._channel import Channel, insecure_channel, secure_channel
from tai_grpc.aio._credentials import composite_channel_credentials, ssl_channel_credentials
from tai_grpc.aio._interceptors import InterceptedUnaryUnaryCall
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
    "AioRpcError",
    "BaseError",
    "BlockingChannel",
    "BlockingRpcError",
    "Call",
    "Channel",
    "ClientCallDetails",
    "ClientInterceptor",
    "InterceptedUnaryUnaryCall",
    "InternalError",
    "Metadata",
    "RpcContext",
    "Server",
    "ServerCertificateConfiguration",
    "ServerCredentials",
    "ServerInterceptor",
    "ServicerContext",
    "StreamStreamCall",
    "StreamStreamClientInterceptor",
    "StreamStreamMultiCallable",
    "StreamUnaryCall",
    "StreamUnaryClientInterceptor",
    "StreamUnaryMultiCallable",
    "UnaryStreamCall",
    "UnaryStreamClientInterceptor",
    "UnaryStreamMultiCallable",
    "UnaryUnaryCall",
    "UnaryUnaryClientInterceptor",
    "UnaryUnaryMultiCallable",
    "UsageError",
    "access_token_call_credentials",
    "blocking_channel",
    "composite_call_credentials",
    "composite_channel_credentials",
    "dynamic_ssl_server_credentials",
    "init_grpc_aio",
    "insecure_channel",
    "metadata_call_credentials",
    "secure_channel",
    "server",
    "shutdown_grpc_aio",
    "ssl_channel_credentials",
    "ssl_server_certificate_configuration",
    "ssl_server_credentials",
]

ServicerContext.register(_NativeContext)
