"""Channel arguments, by their names in grpcio: what a server makes of them, and what it refuses.

Every name is in one of two tables: SERVER has those that are honoured, HARMLESS those that tune something
which has no counterpart here, so that ignoring them changes nothing that a caller sees. Any other name is an
error: an option that is silently ignored is a setting that its author believes in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import grpc

from tai_grpc.aio import _arguments
from tai_grpc.aio._arguments import Option
from tai_grpc.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """A server's settings. Durations are seconds, None: never."""

    max_receive_message_bytes: int = 4 << 20
    """-1: as much as the protocol can say."""
    max_send_message_bytes: int = -1
    max_metadata_bytes: int = 16384
    max_concurrent_streams: int = 1000
    """Of one connection; a client waits with those beyond."""
    stream_window_bytes: int = 1 << 20
    """What a stream that is not read may hold."""
    max_connections: int = 16384
    """Those beyond are closed as soon as they are accepted."""
    handshake_timeout: float | None = 10.0
    """For TLS, the HTTP/2 preface, and any header block that has begun."""
    stall_timeout: float | None = 60.0
    """For which a client may take nothing of what is to be sent."""
    stream_stall_timeout: float | None = 300.0
    """For which it may take nothing of one stream, whatever it takes of others."""
    max_queued_bytes: int = 256 << 20
    """Messages of one connection that wait for its client to take them; calls beyond end."""
    max_unread_bytes: int = 64 << 20
    """Messages of one connection that its handlers have not read; its client waits with those beyond."""
    keepalive_time: float | None = 7200.0
    keepalive_timeout: float | None = 20.0
    keepalive_without_calls: bool = True
    min_ping_interval: float | None = 300.0
    max_ping_strikes: int = 2
    """-1: clients may ping as they like."""
    reset_burst: int = 2000
    """How many unanswered streams of a connection may be reset at once; more end it (CVE-2023-44487)."""
    reset_rate: int = 1000
    """How many a second beyond that."""
    max_connection_age: float | None = None
    max_connection_age_grace: float | None = None
    max_connection_idle: float | None = None
    max_timeout: float | None = None
    """Of calls with one response, whatever deadline the client gives."""
    max_stream_timeout: float | None = None
    """Of calls with a stream of responses."""
    reuse_port: bool = True
    compression: grpc.Compression = grpc.Compression.NoCompression


SERVER: Final[Mapping[str, Option]] = {
    "grpc.max_receive_message_length": Option("max_receive_message_bytes", "number", -1),
    "grpc.max_send_message_length": Option("max_send_message_bytes", "number", -1),
    "grpc.max_metadata_size": Option("max_metadata_bytes", "number", 1),
    "grpc.absolute_max_metadata_size": Option("max_metadata_bytes", "number", 1),
    "grpc.max_concurrent_streams": Option("max_concurrent_streams", "number", 1),
    "grpc.http2.lookahead_bytes": Option("stream_window_bytes", "number", 65535),
    "grpc.server_handshake_timeout_ms": Option("handshake_timeout", "ms", 1),
    "grpc.keepalive_time_ms": Option("keepalive_time", "ms", 1),
    "grpc.keepalive_timeout_ms": Option("keepalive_timeout", "ms", 1),
    "grpc.keepalive_permit_without_calls": Option("keepalive_without_calls", "flag"),
    "grpc.http2.min_recv_ping_interval_without_data_ms": Option("min_ping_interval", "ms"),
    "grpc.http2.min_ping_interval_without_data_ms": Option("min_ping_interval", "ms"),
    "grpc.http2.max_ping_strikes": Option("max_ping_strikes", "number"),
    "grpc.max_connection_age_ms": Option("max_connection_age", "ms", 1),
    "grpc.max_connection_age_grace_ms": Option("max_connection_age_grace", "ms"),
    "grpc.max_connection_idle_ms": Option("max_connection_idle", "ms", 1),
    "grpc.so_reuseport": Option("reuse_port", "flag"),
    "grpc.default_compression_algorithm": Option("compression", "compression"),
    "tai.max_connections": Option("max_connections", "number", 1),
    "tai.max_queued_bytes": Option("max_queued_bytes", "number", 1),
    "tai.max_stream_timeout_ms": Option("max_stream_timeout", "ms", 1),
    "tai.max_timeout_ms": Option("max_timeout", "ms", 1),
    "tai.max_unread_bytes": Option("max_unread_bytes", "number", 65536),
    "tai.reset_burst": Option("reset_burst", "number", 1),
    "tai.reset_rate": Option("reset_rate", "number", 1),
    "tai.stall_timeout_ms": Option("stall_timeout", "ms", 1),
    "tai.stream_stall_timeout_ms": Option("stream_stall_timeout", "ms", 1),
}

HARMLESS: Final = _arguments.HARMLESS | {
    "grpc.enable_http_proxy",
    "grpc.primary_user_agent",
    "grpc.secondary_user_agent",
}


def server_options(
    arguments: Iterable[tuple[str, Any]] | None, compression: grpc.Compression | None = None
) -> ServerOptions:
    """Return the settings that channel arguments make; of a name that is there twice the last one counts.

    Raises:
        TypeError: an argument is not a pair of a name and a value.
        ConfigError: a name is unknown, or its value not of its kind or range.
    """
    found: dict[str, Any] = {}
    for name, value in _arguments.pairs(arguments):
        if name in HARMLESS:
            _arguments.check_harmless(name, value)
        elif (option := SERVER.get(name)) is not None:
            found[option.field] = _arguments.read(name, option, value)
        else:
            raise ConfigError(f"options[{name!r}]", value, f"one of {', '.join(sorted(SERVER))}")
    if compression is not None:
        found["compression"] = _arguments.read_compression("compression", compression)
    if found.get("max_ping_strikes") == 0:
        found["max_ping_strikes"] = -1  # grpcio's way to say that they are not counted
    return replace(ServerOptions(), **found)
