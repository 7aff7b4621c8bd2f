"""Transports: what carries a call to one address and back."""

from importlib.util import find_spec
from typing import Final

from tai_grpc.config import Transport
from tai_grpc.errors import ConfigError

NATIVE_IS_BUILT: Final = find_spec("tai_grpc._ext.aio.server") is not None


def chosen(transport: Transport | None) -> Transport:
    """Return the transport that a setting means: None is the native one where it was built.

    Raises:
        ConfigError: the native one is asked for, and this build is without it.
    """
    if transport is None:
        return "native" if NATIVE_IS_BUILT else "grpcio"
    if transport == "native" and not NATIVE_IS_BUILT:
        raise ConfigError(
            "transport", transport, "'grpcio' in this build, which was made without nghttp2 (TAI_GRPC_NATIVE)"
        )
    return transport
