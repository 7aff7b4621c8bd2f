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

from tai_grpc.aio import _arguments
from tai_grpc.aio._arguments import Option
from tai_grpc.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """A channel's settings. Durations are seconds."""

    max_receive_message_bytes: int = 4 << 20
    """-1: as much as the protocol can say."""
    max_send_message_bytes: int = -1
    max_metadata_bytes: int = 16384
    stream_window_bytes: int = 0
    """What a stream that is not read may hold; 0: what the session takes by itself."""
    max_unread_bytes: int = 64 << 20
    """Messages of one connection that nobody has read; its server waits with those beyond."""
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


CHANNEL: Final = {
    "grpc.max_receive_message_length": Option("max_receive_message_bytes", "number", -1),
    "grpc.max_send_message_length": Option("max_send_message_bytes", "number", -1),
    "grpc.max_metadata_size": Option("max_metadata_bytes", "number", 1),
    "grpc.absolute_max_metadata_size": Option("max_metadata_bytes", "number", 1),
    "grpc.http2.lookahead_bytes": Option("stream_window_bytes", "number", 65535),
    "grpc.keepalive_time_ms": Option("keepalive_time", "ms", 1),
    "grpc.keepalive_timeout_ms": Option("keepalive_timeout", "ms", 1),
    "grpc.keepalive_permit_without_calls": Option("keepalive_without_calls", "flag"),
    "grpc.initial_reconnect_backoff_ms": Option("initial_backoff", "ms", 1),
    "grpc.max_reconnect_backoff_ms": Option("max_backoff", "ms", 1),
    "grpc.min_reconnect_backoff_ms": Option("connect_timeout", "ms", 1),
    "grpc.happy_eyeballs_connection_attempt_delay_ms": Option("attempt_delay", "ms", 1),
    "grpc.dns_min_time_between_resolutions_ms": Option("min_resolution_interval", "ms"),
    "grpc.lb_policy_name": Option("policy", "policy"),
    "grpc.service_config": Option("policy", "service config"),
    "grpc.default_authority": Option("authority", "text"),
    "grpc.ssl_target_name_override": Option("target_name_override", "text"),
    "grpc.primary_user_agent": Option("primary_user_agent", "text"),
    "grpc.secondary_user_agent": Option("secondary_user_agent", "text"),
    "grpc.default_compression_algorithm": Option("compression", "compression"),
    "tai.max_unread_bytes": Option("max_unread_bytes", "number", 65536),
}

HARMLESS: Final = _arguments.HARMLESS | {
    "grpc.http2.min_ping_interval_without_data_ms",
    "grpc.http2.ping_timeout_ms",
    "grpc.service_config_disable_resolution",
    "grpc.so_reuseport",
}

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
    for name, value in _arguments.pairs(arguments):
        if name in HARMLESS or not name.startswith(("grpc.", "tai.")):
            _arguments.check_harmless(name, value)
        elif name == "grpc.enable_http_proxy":
            if value != 0:
                raise ConfigError(f"options[{name!r}]", value, "0: proxies are not supported")
        elif (option := CHANNEL.get(name)) is not None:
            found[option.field] = _value(name, option, value)
        else:
            raise ConfigError(f"options[{name!r}]", value, f"one of {', '.join(sorted(CHANNEL))}")
    if compression is not None:
        found["compression"] = _arguments.read_compression("compression", compression)
    for field in ("keepalive_timeout", "initial_backoff", "max_backoff", "connect_timeout", "attempt_delay"):
        if field in found and found[field] is None:
            found[field] = _arguments.FOREVER_MS / 1000
    return replace(ChannelOptions(), **found)


def _value(name: str, option: Option, value: Any) -> Any:
    field = f"options[{name!r}]"
    if option.kind == "service config":
        return _policy_of(field, _arguments.read_text(field, value))
    if option.kind == "policy":
        text = _arguments.read_text(field, value)
        if text not in _POLICIES:
            raise ConfigError(field, value, f"one of {', '.join(_POLICIES)}")
        return text
    return _arguments.read(name, option, value)


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
        if not isinstance(listed, list):
            raise ConfigError(name, text, accepted)
        names = [next(iter(entry), "") for entry in listed if isinstance(entry, dict)]
    else:
        names = [str(config["loadBalancingPolicy"]).lower()]
    for policy in names:
        if policy in _POLICIES:
            return policy
    raise ConfigError(name, text, accepted)


assert {option.field for option in CHANNEL.values()} == {field.name for field in fields(ChannelOptions)}  # noqa: S101
