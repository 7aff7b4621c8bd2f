"""Plain channels, without the client's retries, breakers and balancing: one call is one attempt."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc

from tai_grpc._version import __version__
from tai_grpc.config import Transport
from tai_grpc.errors import ConfigError
from tai_grpc.load.addresses import default_authority, host_name
from tai_grpc.load.exchange import BlockingChannel
from tai_grpc.load.plan import TlsPlan
from tai_grpc.transport import chosen

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""The largest response that is taken."""

Options = list[tuple[str, Any]]

_OPTIONS: Final = (
    # Otherwise all of grpcio's channels to one address share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.primary_user_agent", f"tai-grpc/{__version__}"),
)


@contextmanager
def open_blocking_channel(
    address: str,
    transport: Transport | None = None,
    *,
    tls: TlsPlan | None = None,
    authority: str | None = None,
) -> Iterator[BlockingChannel]:
    """Open a channel to HOST:PORT or unix:PATH, with a connection of its own once it is used.

    With grpcio it is none of grpc.aio's, which may lose the status of a server that ends a call before it has
    read all requests (https://github.com/grpc/grpc/issues/36066).

    Raises:
        ConfigError: this build is without the transport, or the TLS texts cannot be used.
    """
    options: Options = list(_OPTIONS)
    if tls is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name or host_name(address)))
    # After the name for TLS, which is the authority too where none is given.
    options.append(("grpc.default_authority", authority or default_authority(address)))
    if chosen(transport) == "grpcio":
        with _grpcio(address, options, tls) as channel:
            yield channel
    else:
        with _native(address, options, tls) as channel:
            yield channel


def tls_context(tls: TlsPlan) -> ssl.SSLContext:
    """Return what the native transport speaks TLS with.

    Raises:
        ConfigError: the texts cannot be used; "cacert" or "cert, key" of them.
    """
    # Not every build has it.
    from tai_grpc.aio._credentials import client_context  # noqa: PLC0415

    try:
        context = client_context(tls.ca, tls.key, tls.certificate, "TLSv1.2")
    except ConfigError as error:
        field = "cacert" if error.field == "root_certificates" else "cert, key"
        raise ConfigError(field, error.value, error.accepted) from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def _native(address: str, options: Options, tls: TlsPlan | None) -> Iterator[BlockingChannel]:
    # Not every build has it.
    from tai_grpc.aio._blocking import BlockingChannel as NativeChannel  # noqa: PLC0415
    from tai_grpc.aio._credentials import ChannelSecurity  # noqa: PLC0415

    security = None if tls is None else ChannelSecurity(tls_context(tls))
    with NativeChannel(address, options, security) as channel:
        yield channel


@contextmanager
def _grpcio(address: str, options: Options, tls: TlsPlan | None) -> Iterator[BlockingChannel]:
    if tls is None:
        channel = grpc.insecure_channel(address, options=options)
    elif not tls.verify:
        raise ConfigError("skipTLS", True, "the native transport, which can leave the certificate unchecked")
    else:
        credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
        channel = grpc.secure_channel(address, credentials, options=options)
    with channel:
        yield channel
