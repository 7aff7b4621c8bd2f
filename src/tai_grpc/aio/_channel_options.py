"""A channel's arguments, by their names in grpcio: what is made of them, and what is refused.

Every name is in CHANNEL, which is honoured, or in HARMLESS, which tunes what has no counterpart here, so that
ignoring it changes nothing a caller sees. Any other name of grpcio is an error. Names without `grpc.` are let
through: in grpcio too they do nothing but keep two channels from sharing a connection.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import grpc

from tai_grpc.errors import ConfigError

_FOREVER_MS: Final = 2**31 - 1
"""What grpcio takes for "never" where a number of milliseconds is expected."""


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """A channel's settings. Durations are seconds."""

    max_receive_message_bytes: int = 4 << 20
    """-1: as much as the protocol can say."""
    max_send_message_bytes: int = -1
    max_metadata_bytes: int = 16384
    stream_window_bytes: int = 0
    """What a stream that is not read may hold; 0: what the session takes by itself."""
    keepalive_time: float | None = None
    """None: no pings."""
    keepalive_timeout: float = 20.0
    keepalive_without_calls: bool = False
    initial_backoff: float = 1.0
    max_backoff: float = 120.0
    connect_timeout: float = 20.0
    """Within which a connection must be there, or as long as the backoff is if that is longer."""
    attempt_delay: float = 0.25
    """After which the next address is tried beside one that has not answered yet."""
    min_resolution_interval: float = 30.0
    policy: str = "pick_first"
    authority: str = ""
    target_name_override: str = ""
    primary_user_agent: str = ""
    secondary_user_agent: str = ""
    compression: grpc.Compression = grpc.Compression.NoCompression


@dataclass(frozen=True, slots=True)
class _Option:
    field: str
    kind: str
    """"bytes" are numbers, "ms" milliseconds, "flag" 0 or 1, "text" a str."""
    lowest: int = 0
    highest: int = _FOREVER_MS


CHANNEL: Final = {
    "grpc.max_receive_message_length": _Option("max_receive_message_bytes", "bytes", -1),
    "grpc.max_send_message_length": _Option("max_send_message_bytes", "bytes", -1),
    "grpc.max_metadata_size": _Option("max_metadata_bytes", "bytes", 1),
    "grpc.absolute_max_metadata_size": _Option("max_metadata_bytes", "bytes", 1),
    "grpc.http2.lookahead_bytes": _Option("stream_window_bytes", "bytes", 65535),
    "grpc.keepalive_time_ms": _Option("keepalive_time", "ms", 1),
    "grpc.keepalive_timeout_ms": _Option("keepalive_timeout", "ms", 1),
    "grpc.keepalive_permit_without_calls": _Option("keepalive_without_calls", "flag"),
    "grpc.initial_reconnect_backoff_ms": _Option("initial_backoff", "ms", 1),
    "grpc.max_reconnect_backoff_ms": _Option("max_backoff", "ms", 1),
    "grpc.min_reconnect_backoff_ms": _Option("connect_timeout", "ms", 1),
    "grpc.happy_eyeballs_connection_attempt_delay_ms": _Option("attempt_delay", "ms", 1),
    "grpc.dns_min_time_between_resolutions_ms": _Option("min_resolution_interval", "ms"),
    "grpc.lb_policy_name": _Option("policy", "policy"),
    "grpc.service_config": _Option("policy", "service config"),
    "grpc.default_authority": _Option("authority", "text"),
    "grpc.ssl_target_name_override": _Option("target_name_override", "text"),
    "grpc.primary_user_agent": _Option("primary_user_agent", "text"),
    "grpc.secondary_user_agent": _Option("secondary_user_agent", "text"),
    "grpc.default_compression_algorithm": _Option("compression", "compression"),
}

HARMLESS: Final = frozenset(
    {
        # Retries by a service config are none of this channel's: GrpcClient has them.
        "grpc.enable_retries",
        "grpc.enable_channelz",
        "grpc.experimental.tcp_max_read_chunk_size",
        "grpc.experimental.tcp_min_read_chunk_size",
        "grpc.experimental.tcp_read_chunk_size",
        "grpc.http2.bdp_probe",
        "grpc.http2.hpack_table_size.decoder",
        "grpc.http2.hpack_table_size.encoder",
        "grpc.http2.max_frame_size",
        "grpc.http2.max_pings_without_data",
        "grpc.http2.min_ping_interval_without_data_ms",
        "grpc.http2.min_time_between_pings_ms",
        "grpc.http2.ping_timeout_ms",
        "grpc.http2.write_buffer_size",
        "grpc.max_channel_trace_event_memory_per_node",
        "grpc.optimization_target",
        "grpc.per_message_compression",
        "grpc.service_config_disable_resolution",
        "grpc.so_reuseport",
        "grpc.tcp_user_timeout_ms",
        "grpc.use_local_subchannel_pool",
    }
)

_POLICIES: Final = ("pick_first", "round_robin")


def channel_options(
    arguments: Iterable[tuple[str, Any]] | None, compression: grpc.Compression | None = None
) -> ChannelOptions:
    """Return the settings that channel arguments make; of a name that is there twice the last one counts.

    Raises:
        TypeError: an argument is not a pair of a name and a value.
        ConfigError: a name is unknown, or its value not of its kind or range.
    """
    found: dict[str, Any] = {}
    for name, value in _pairs(arguments):
        if name in HARMLESS or not name.startswith(("grpc.", "tai.")):
            if not isinstance(value, (int, str, bytes)):
                raise ConfigError(f"options[{name!r}]", value, "a number or a text")
        elif name == "grpc.enable_http_proxy":
            if value != 0:
                raise ConfigError(f"options[{name!r}]", value, "0: proxies are not supported")
        elif (option := CHANNEL.get(name)) is not None:
            found[option.field] = _value(f"options[{name!r}]", option, value)
        else:
            raise ConfigError(f"options[{name!r}]", value, f"one of {', '.join(sorted(CHANNEL))}")
    if compression is not None:
        found["compression"] = _compression("compression", compression)
    for field in ("keepalive_timeout", "initial_backoff", "max_backoff", "connect_timeout", "attempt_delay"):
        if field in found and found[field] is None:
            found[field] = _FOREVER_MS / 1000
    return replace(ChannelOptions(), **found)


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


def _value(name: str, option: _Option, value: Any) -> Any:
    if option.kind == "compression":
        return _compression(name, value)
    if option.kind in ("text", "policy", "service config"):
        text = value.decode() if isinstance(value, bytes) else value
        if not isinstance(text, str) or not text.isprintable():
            raise ConfigError(name, value, "a text")
        if option.kind == "service config":
            return _policy_of(name, text)
        if option.kind == "policy" and text not in _POLICIES:
            raise ConfigError(name, value, f"one of {', '.join(_POLICIES)}")
        return text
    lowest, highest = (0, 1) if option.kind == "flag" else (option.lowest, option.highest)
    if not isinstance(value, int) or not lowest <= value <= highest:
        raise ConfigError(name, value, f"a whole number from {lowest} to {highest}")
    if option.kind == "flag":
        return bool(value)
    if option.kind == "ms":
        return None if value == _FOREVER_MS else value / 1000
    return value


def _policy_of(name: str, text: str) -> str:
    """Return the policy of a service config that chooses one and nothing else."""
    accepted = 'JSON with "loadBalancingConfig" (pick_first or round_robin) alone; retries are GrpcClient\'s'
    try:
        config = json.loads(text)
    except ValueError:
        raise ConfigError(name, text, accepted) from None
    if config == {}:
        return "pick_first"
    if not isinstance(config, dict) or not set(config) <= {"loadBalancingConfig", "loadBalancingPolicy"}:
        raise ConfigError(name, text, accepted)
    if "loadBalancingConfig" in config:
        listed = config["loadBalancingConfig"]
        names = [next(iter(entry), "") for entry in listed if isinstance(entry, dict)]
    else:
        names = [str(config["loadBalancingPolicy"]).lower()]
    for policy in names:
        if policy in _POLICIES:
            return policy
    raise ConfigError(name, text, accepted)


def _compression(name: str, value: Any) -> grpc.Compression:
    try:
        return grpc.Compression(value)
    except ValueError:
        members = ", ".join(f"{member.value} ({member.name})" for member in grpc.Compression)
        raise ConfigError(name, value, f"a grpc.Compression: {members}") from None


assert {option.field for option in CHANNEL.values()} == {field.name for field in fields(ChannelOptions)}  # noqa: S101
