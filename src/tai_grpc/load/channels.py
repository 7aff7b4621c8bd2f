"""Plain channels, without the client's retries, breakers and balancing: one call is one attempt."""

from __future__ import annotations

from typing import Final

import grpc

from tai_grpc._version import __version__

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""The largest response that is taken."""

_OPTIONS: Final = (
    # Otherwise all channels to one address share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.primary_user_agent", f"tai-grpc/{__version__}"),
)


def open_channel(address: str) -> grpc.aio.Channel:
    """Return a channel to HOST:PORT with a connection of its own."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


def open_blocking_channel(address: str) -> grpc.Channel:
    """Return the same for calls that block.

    Also the one for request streams: grpc.aio may lose the status of a server that ends a call before it has
    read all requests (https://github.com/grpc/grpc/issues/36066).
    """
    return grpc.insecure_channel(address, options=_OPTIONS)
