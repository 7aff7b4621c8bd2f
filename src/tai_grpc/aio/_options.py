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

from tai_grpc.errors import ConfigError

_FOREVER_MS: Final = 2**31 - 1
"""What grpcio takes for "never" where a number of milliseconds is expected."""


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


@dataclass(frozen=True, slots=True)
class _Option:
    field: str
    kind: str
    """A "number", one of "ms", a "flag" (0 or 1), or a "compression"."""
    lowest: int = 0
    highest: int = _FOREVER_MS


SERVER: Final[Mapping[str, _Option]] = {
    "grpc.max_receive_message_length": _Option("max_receive_message_bytes", "number", -1),
    "grpc.max_send_message_length": _Option("max_send_message_bytes", "number", -1),
    "grpc.max_metadata_size": _Option("max_metadata_bytes", "number", 1),
    "grpc.absolute_max_metadata_size": _Option("max_metadata_bytes", "number", 1),
    "grpc.max_concurrent_streams": _Option("max_concurrent_streams", "number", 1),
    "grpc.http2.lookahead_bytes": _Option("stream_window_bytes", "number", 65535),
    "grpc.server_handshake_timeout_ms": _Option("handshake_timeout", "ms", 1),
    "grpc.keepalive_time_ms": _Option("keepalive_time", "ms", 1),
    "grpc.keepalive_timeout_ms": _Option("keepalive_timeout", "ms", 1),
    "grpc.keepalive_permit_without_calls": _Option("keepalive_without_calls", "flag"),
    "grpc.http2.min_recv_ping_interval_without_data_ms": _Option("min_ping_interval", "ms"),
    "grpc.http2.min_ping_interval_without_data_ms": _Option("min_ping_interval", "ms"),
    "grpc.http2.max_ping_strikes": _Option("max_ping_strikes", "number"),
    "grpc.max_connection_age_ms": _Option("max_connection_age", "ms", 1),
    "grpc.max_connection_age_grace_ms": _Option("max_connection_age_grace", "ms"),
    "grpc.max_connection_idle_ms": _Option("max_connection_idle", "ms", 1),
    "grpc.so_reuseport": _Option("reuse_port", "flag"),
    "grpc.default_compression_algorithm": _Option("compression", "compression"),
    "tai.max_connections": _Option("max_connections", "number", 1),
    "tai.max_stream_timeout_ms": _Option("max_stream_timeout", "ms", 1),
    "tai.max_timeout_ms": _Option("max_timeout", "ms", 1),
    "tai.reset_burst": _Option("reset_burst", "count", 1),
    "tai.reset_rate": _Option("reset_rate", "count", 1),
    "tai.stall_timeout_ms": _Option("stall_timeout", "ms", 1),
}

HARMLESS: Final = frozenset(
    {
        "grpc.enable_channelz",
        "grpc.enable_http_proxy",
        "grpc.enable_retries",
        "grpc.experimental.tcp_max_read_chunk_size",
        "grpc.experimental.tcp_min_read_chunk_size",
        "grpc.experimental.tcp_read_chunk_size",
        "grpc.http2.bdp_probe",
        "grpc.http2.hpack_table_size.decoder",
        "grpc.http2.hpack_table_size.encoder",
        "grpc.http2.max_frame_size",
        "grpc.http2.max_pings_without_data",
        "grpc.http2.min_time_between_pings_ms",
        "grpc.http2.write_buffer_size",
        "grpc.max_channel_trace_event_memory_per_node",
        "grpc.optimization_target",
        "grpc.per_message_compression",
        "grpc.primary_user_agent",
        "grpc.secondary_user_agent",
        "grpc.tcp_user_timeout_ms",
        "grpc.use_local_subchannel_pool",
    }
)


def server_options(
    arguments: Iterable[tuple[str, Any]] | None, compression: grpc.Compression | None = None
) -> ServerOptions:
    """Return the settings that channel arguments make; of a name that is there twice the last one counts.

    Raises:
        TypeError: an argument is not a pair of a name and a value.
        ConfigError: a name is unknown, or its value not of its kind or range.
    """
    found: dict[str, Any] = {}
    for name, value in _pairs(arguments):
        if name in HARMLESS:
            _check_scalar(name, value)
        elif (option := SERVER.get(name)) is not None:
            found[option.field] = _value(name, option, value)
        else:
            raise ConfigError(f"options[{name!r}]", value, f"one of {', '.join(sorted(SERVER))}")
    if compression is not None:
        found["compression"] = _compression("compression", compression)
    if found.get("max_ping_strikes") == 0:
        found["max_ping_strikes"] = -1  # grpcio's way to say that they are not counted
    return replace(ServerOptions(), **found)


def _pairs(arguments: Iterable[tuple[str, Any]] | None) -> Iterable[tuple[str, Any]]:
    for argument in arguments or ():
        try:
            name, value = argument
        except ValueError:
            name, value = None, None
        if isinstance(name, bytes):
            name = name.decode("latin-1")
        if not isinstance(name, str):
            raise TypeError(f"options: expected pairs of a name and a value, got {argument!r}")
        yield name, value


def _check_scalar(name: str, value: object) -> None:
    if not isinstance(value, (int, str, bytes)):
        raise ConfigError(f"options[{name!r}]", value, "a number or a text")


def _value(name: str, option: _Option, value: Any) -> Any:
    if option.kind == "compression":
        return _compression(f"options[{name!r}]", value)
    lowest, highest = (0, 1) if option.kind == "flag" else (option.lowest, option.highest)
    if not isinstance(value, int) or not lowest <= value <= highest:
        raise ConfigError(f"options[{name!r}]", value, f"a whole number from {lowest} to {highest}")
    if option.kind == "flag":
        return bool(value)
    if option.kind == "ms":
        return None if value == _FOREVER_MS else value / 1000
    return value


def _compression(name: str, value: Any) -> grpc.Compression:
    try:
        return grpc.Compression(value)
    except ValueError:
        members = ", ".join(f"{member.value} ({member.name})" for member in grpc.Compression)
        raise ConfigError(name, value, f"a grpc.Compression: {members}") from None
