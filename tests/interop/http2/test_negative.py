"""The client's side of grpc's negative HTTP/2 interop cases, with grpc.aio as the reference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from interop.http2 import scripted
from interop.http2.scripted import ANSWER, Scripted
from tai_grpc import aio
from wire import frames

LIMIT = 30.0
CALLED = "/grpc.testing.TestService/UnaryCall"
CLIENTS = pytest.mark.parametrize("client", [grpc.aio, aio], ids=["grpc.aio", "tai_grpc.aio"])


@asynccontextmanager
async def calling(client: Any, server: Scripted) -> AsyncIterator[Any]:
    """A channel to the server."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with (
        asyncio.timeout(LIMIT),
        server.serving(),
        client.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel,
    ):
        yield channel


async def failure(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        await call
    code: grpc.StatusCode = caught.value.code()
    return code


@CLIENTS
async def test_goaway(client: Any) -> None:
    """The second call is made on a new connection, and its caller notices nothing.

    As in the official case, a call begins only when the client has taken notice of the last one's GOAWAY:
    grpc.aio fails a call that crosses it, if its request is beyond the 256 KiB that grpc keeps for a retry.
    """
    server = Scripted(scripted.goaway)
    async with calling(client, server) as channel:
        call = channel.unary_unary(CALLED)
        for _ in range(3):
            assert await call(b"x" * 271_828) == ANSWER
            while channel.get_state() is grpc.ChannelConnectivity.READY:
                await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        assert [each.calls for each in server.connections] == [[1], [1], [1]]


@CLIENTS
async def test_goaway_while_others_wait(client: Any) -> None:
    """Calls that the peer did not take are made again elsewhere: by grpc.aio once only."""

    async def first_leaves(connection: scripted.Connection, stream_id: int) -> None:
        if connection is server.connections[0]:
            await scripted.goaway(connection, stream_id)
        else:
            await connection.answer(stream_id)

    server = Scripted(first_leaves, {3: 1})
    async with calling(client, server) as channel:
        call = channel.unary_unary(CALLED)
        assert await asyncio.gather(*(call(b"x") for _ in range(5))) == [ANSWER] * 5
        assert len(server.connections) == 2


@CLIENTS
@pytest.mark.parametrize(
    "case", [scripted.rst_after_header, scripted.rst_during_data, scripted.rst_after_data]
)
async def test_a_reset_is_no_success(client: Any, case: scripted.Case) -> None:
    server = Scripted(case)
    async with calling(client, server) as channel:
        call = channel.unary_unary(CALLED)
        # grpc.aio takes NO_ERROR for UNKNOWN or INTERNAL, as far as it had come; the table says INTERNAL.
        expected = {grpc.StatusCode.INTERNAL} | ({grpc.StatusCode.UNKNOWN} if client is grpc.aio else set())
        assert await failure(call(b"x")) in expected
        assert await failure(call(b"x")) in expected
        assert [each.calls for each in server.connections] == [[1, 3]]


@CLIENTS
async def test_ping(client: Any) -> None:
    """Each is answered, in their order."""
    server = Scripted(scripted.ping)
    async with calling(client, server) as channel:
        call = channel.unary_unary(CALLED)
        assert await call(b"x") == ANSWER
        assert await call(b"x") == ANSWER
        (connection,) = server.connections
        await connection.ponged(8)
        assert connection.pongs == [b"%08d" % i for i in range(1, 9)]


@CLIENTS
async def test_max_streams(client: Any) -> None:
    """Never more than one at a time, and all are answered."""
    server = Scripted(scripted.max_streams, {3: 1})
    async with calling(client, server) as channel:
        call = channel.unary_unary(CALLED)
        assert await call(b"x") == ANSWER
        assert await asyncio.gather(*(call(b"x") for _ in range(10))) == [ANSWER] * 10
        (connection,) = server.connections
        assert (connection.most_open, len(connection.calls)) == (1, 11)


@CLIENTS
async def test_data_frame_padding(client: Any) -> None:
    server = Scripted(scripted.data_frame_padding)
    async with calling(client, server) as channel:
        call = channel.unary_unary(CALLED)
        if client is grpc.aio:
            # grpcio itself knows no padding: "unsupported data flags".
            assert await failure(call(b"x")) is grpc.StatusCode.INTERNAL
            return
        assert await call(b"x") == ANSWER
        assert await call(b"x") == ANSWER


@CLIENTS
async def test_an_unsupported_frame_and_a_setting_nobody_knows(client: Any) -> None:
    """They are ignored."""

    async def odd(connection: scripted.Connection, stream_id: int) -> None:
        connection.write(frames.raw(0xEE, 0, 0, b"what"), frames.settings({0xF000: 7}))
        await connection.answer(stream_id)

    async with calling(client, Scripted(odd)) as channel:
        call = channel.unary_unary(CALLED)
        assert await call(b"x") == ANSWER
