"""Every case, every server, every client, plain and TLS."""

import asyncio

import pytest

from interop.cases import CASES, Client

# Of one case; the slowest takes about a second.
LIMIT = 30.0


@pytest.mark.parametrize("name", CASES)
async def test_case(name: str, client: Client) -> None:
    async with asyncio.timeout(LIMIT):
        await CASES[name](client)


def test_every_official_case_is_there() -> None:
    """Those that need no cloud, proxy or balancer; the HTTP/2 negative cases need a scripted peer."""
    assert set(CASES) >= {
        "empty_unary",
        "large_unary",
        "client_compressed_unary",
        "server_compressed_unary",
        "client_streaming",
        "client_compressed_streaming",
        "server_streaming",
        "server_compressed_streaming",
        "ping_pong",
        "empty_stream",
        "custom_metadata",
        "status_code_and_message",
        "special_status_message",
        "unimplemented_method",
        "unimplemented_service",
        "cancel_after_begin",
        "cancel_after_first_response",
        "timeout_on_sleeping_server",
        "rpc_soak",
        "channel_soak",
    }
