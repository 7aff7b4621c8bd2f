"""Channel arguments of a server: known by name, checked, and never ignored in silence."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from tai_grpc import aio
from tai_grpc.aio._options import HARMLESS, SERVER, ServerOptions, server_options
from tai_grpc.errors import ConfigError

# A value of each that is not its default, and what comes of it.
VALUES: dict[str, tuple[Any, Any]] = {
    "grpc.max_receive_message_length": (100, 100),
    "grpc.max_send_message_length": (100, 100),
    "grpc.max_metadata_size": (100, 100),
    "grpc.absolute_max_metadata_size": (100, 100),
    "grpc.max_concurrent_streams": (7, 7),
    "grpc.http2.lookahead_bytes": (70_000, 70_000),
    "grpc.server_handshake_timeout_ms": (1500, 1.5),
    "grpc.keepalive_time_ms": (2**31 - 1, None),
    "grpc.keepalive_timeout_ms": (500, 0.5),
    "grpc.keepalive_permit_without_calls": (0, False),
    "grpc.http2.min_recv_ping_interval_without_data_ms": (10_000, 10.0),
    "grpc.http2.min_ping_interval_without_data_ms": (10_000, 10.0),
    "grpc.http2.max_ping_strikes": (0, -1),
    "grpc.max_connection_age_ms": (60_000, 60.0),
    "grpc.max_connection_age_grace_ms": (5_000, 5.0),
    "grpc.max_connection_idle_ms": (60_000, 60.0),
    "grpc.so_reuseport": (0, False),
    "grpc.default_compression_algorithm": (2, grpc.Compression.Gzip),
    "tai.max_connections": (5, 5),
    "tai.max_timeout_ms": (5_000, 5.0),
    "tai.max_queued_bytes": (6, 6),
    "tai.max_stream_timeout_ms": (5_000, 5.0),
    "tai.max_unread_bytes": (70_000, 70_000),
    "tai.reset_burst": (9, 9),
    "tai.reset_rate": (8, 8),
    "tai.stall_timeout_ms": (5_000, 5.0),
    "tai.stream_stall_timeout_ms": (5_000, 5.0),
}


def test_every_option_has_its_line_above() -> None:
    assert VALUES.keys() == SERVER.keys()


@pytest.mark.parametrize("name", VALUES)
def test_an_option_sets_its_field(name: str) -> None:
    given, expected = VALUES[name]
    field = SERVER[name].field
    assert getattr(server_options([(name, given)]), field) == expected
    assert getattr(ServerOptions(), field) != expected
    assert getattr(server_options([(name.encode(), given)]), field) == expected  # type: ignore[list-item]


@pytest.mark.parametrize("name", VALUES)
def test_a_value_out_of_range_is_named_with_what_is_accepted(name: str) -> None:
    for wrong in (-2, 2**31, "7", None, 1.5):
        with pytest.raises(ConfigError, match=rf"options\['{name}'\]=.*: expected "):
            server_options([(name, wrong)])


@pytest.mark.parametrize("name", ["grpc.max_recieve_message_length", "grpc.lb_policy_name", "mine"])
def test_an_unknown_option_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"options\['{name}'\]=1: expected one of .*grpc.so_reuseport"):
        aio.server(options=[(name, 1)])


def test_harmless_options_change_nothing() -> None:
    assert server_options([(name, 1) for name in HARMLESS]) == ServerOptions()
    assert not HARMLESS & SERVER.keys()


def test_the_last_of_two_counts() -> None:
    assert server_options([("grpc.so_reuseport", 1), ("grpc.so_reuseport", 0)]).reuse_port is False


def test_compression_is_one_of_grpcs() -> None:
    assert server_options((), grpc.Compression.Deflate).compression is grpc.Compression.Deflate
    with pytest.raises(ConfigError, match=r"compression=7: expected a grpc.Compression: 0 \(NoCompression\)"):
        aio.server(compression=7)  # type: ignore[arg-type]


async def test_a_server_that_cannot_listen_says_so_each_time_and_lets_its_ports_go() -> None:
    server = aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    server.add_insecure_port("127.0.0.1:0")
    (_, _), (second, _) = server._ports
    for bound in second.sockets:
        bound.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        await server.start()
    with pytest.raises(aio.UsageError, match="already stopped"):
        await server.start()
    again = aio.server()
    assert again.add_insecure_port(f"127.0.0.1:{port}") == port
    await again.stop(None)
