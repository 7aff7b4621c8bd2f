"""grpc.aio's names on the native transport: change `from grpc import aio` to `from tai_grpc import aio`."""

from __future__ import annotations

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
    Server,
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
)

from tai_grpc.aio._channel import Channel, insecure_channel, secure_channel
from tai_grpc.aio._credentials import composite_channel_credentials, ssl_channel_credentials
from tai_grpc.aio._interceptors import InterceptedUnaryUnaryCall
