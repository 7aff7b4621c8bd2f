"""What the arguments of servers and of channels have in common: pairs of a name of grpcio's and a value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import grpc

from tai_grpc.errors import ConfigError

FOREVER_MS: Final = 2**31 - 1
"""What grpcio takes for "never" where a number of milliseconds is expected."""

HARMLESS: Final = frozenset(
    {
        "grpc.enable_channelz",
        # Retries by a service config are none of `tai_grpc.aio`'s: GrpcClient has them.
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
        "grpc.tcp_user_timeout_ms",
        "grpc.use_local_subchannel_pool",
    }
)
"""Names that tune what has no counterpart here: ignoring them changes nothing a caller sees."""


@dataclass(frozen=True, slots=True)
class Option:
    """An argument that is honoured: the field that it sets, and the values that it takes."""

    field: str
    kind: str
    """A "number", one of "ms", a "flag" (0 or 1), a "text", a "compression", or one of its table's own."""
    lowest: int = 0
    highest: int = FOREVER_MS


def pairs(arguments: Iterable[tuple[str, Any]] | None) -> Iterable[tuple[str, Any]]:
    """Yield the arguments, their names as str.

    Raises:
        TypeError: one is not a pair of a name and a value.
    """
    for argument in arguments or ():
        try:
            name, value = argument
        except (TypeError, ValueError):
            name, value = None, None
        if isinstance(name, bytes):
            name = name.decode("latin-1")
        if not isinstance(name, str):
            raise TypeError(f"options: expected pairs of a name and a value, got {argument!r}")
        yield name, value


def check_harmless(name: str, value: object) -> None:
    """Raise ConfigError if it is a value of no argument whatever."""
    if not isinstance(value, (int, str, bytes)):
        raise ConfigError(f"options[{name!r}]", value, "a number or a text")


def read(name: str, option: Option, value: Any) -> Any:
    """Return what the option's field is set to: durations in seconds, None for never.

    Raises:
        ConfigError: the value is not of its kind or range.
    """
    field = f"options[{name!r}]"
    if option.kind == "compression":
        return read_compression(field, value)
    if option.kind == "text":
        return read_text(field, value)
    lowest, highest = (0, 1) if option.kind == "flag" else (option.lowest, option.highest)
    if not isinstance(value, int) or not lowest <= value <= highest:
        raise ConfigError(field, value, f"a whole number from {lowest} to {highest}")
    if option.kind == "flag":
        return bool(value)
    if option.kind == "ms":
        return None if value == FOREVER_MS else value / 1000
    return value


def read_text(field: str, value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not isinstance(text, str) or not text.isprintable():
        raise ConfigError(field, value, "a text")
    return text


def read_compression(field: str, value: Any) -> grpc.Compression:
    try:
        return grpc.Compression(value)
    except ValueError:
        members = ", ".join(f"{member.value} ({member.name})" for member in grpc.Compression)
        raise ConfigError(field, value, f"a grpc.Compression: {members}") from None
