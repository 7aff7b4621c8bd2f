"""Clients that do not take what they asked for: what is held for them, and for how long."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hpack import Decoder

from aio.link import SERVICE, Handlers, Options, chat, path, unary, until
from aio.raw_client import (
    ACK,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    RawClient,
    message,
    request,
)
from tai_grpc import aio

INITIAL_WINDOW_SIZE = 4
CANCEL = b"\0\0\0\x08"
RESOURCE_EXHAUSTED = "8"


@asynccontextmanager
async def serving(handlers: Handlers, options: Options = ()) -> AsyncIterator[tuple[Any, RawClient]]:
    """A server, and a client none of whose streams has a window. Nothing is left at the end."""
    server: Any = aio.server(options=options)
    server.add_registered_method_handlers(SERVICE, dict(handlers))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with RawClient(port) as client:
            client.send_bytes(PREFACE)
            setting = struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)
            client.send(Frame(SETTINGS, 0, 0, setting), Frame(SETTINGS, ACK, 0, b""))
            yield server, client
    finally:
        await server.stop(None)
    assert not server._service.connections
    assert (server._service.calls, server._service.admitted) == (0, 0)


async def big(request: bytes, context: Any) -> bytes:
    return bytes(100_000)


class Writer:
    """A handler that writes until it cannot, and tells why."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    async def write(self, requests: Any, context: Any) -> None:
        try:
            while True:
                await context.write(bytes(50_000))
        except BaseException as error:
            self.ended.set_result(type(error))
            raise


async def test_at_its_deadline_an_answer_that_nobody_takes_is_dropped() -> None:
    """Long after its handler has ended."""
    async with serving({"Big": unary(big)}) as (_, client):
        client.call(1, path("Big"), b"", ("grpc-timeout", "300m"))
        assert (await client.next(RST_STREAM)).payload == CANCEL


async def test_at_its_deadline_a_stream_that_nobody_takes_is_dropped_and_its_handler_cancelled() -> None:
    writer = Writer()
    async with serving({"Write": chat(writer.write)}) as (_, client):
        client.send(Frame(HEADERS, END_HEADERS, 1, request(path("Write"), ("grpc-timeout", "300m"))))
        assert (await client.next(RST_STREAM)).payload == CANCEL
        assert await writer.ended is asyncio.CancelledError


async def test_a_stream_of_which_nothing_is_taken_is_given_up_and_others_go_on() -> None:
    """Without any deadline."""
    writer = Writer()
    handlers: Handlers = {"Big": unary(big), "Write": chat(writer.write)}
    async with serving(handlers, [("tai.stream_stall_timeout_ms", 400)]) as (_, client):
        client.send(Frame(HEADERS, END_HEADERS, 1, request(path("Write"))))
        client.call(3, path("Big"))
        client.call(5, path("Big"))
        taken = 0
        ended: set[int] = set()
        while ended != {1, 3} or taken < 60_000:
            frame = await client.frame()
            assert frame is not None
            if frame.kind == RST_STREAM:
                assert (frame.stream in (1, 3), frame.payload) == (True, CANCEL)
                ended.add(frame.stream)
            taken += len(frame.payload) if frame.kind == DATA else 0
            if frame.kind == DATA or taken == 0:
                await asyncio.sleep(0.02)  # slow, but at it
                client.send(Frame(WINDOW_UPDATE, 0, 5, struct.pack(">I", 2_000)))
        assert await writer.ended is asyncio.CancelledError


async def test_what_a_connection_may_have_queued_is_bounded() -> None:
    """Calls beyond are refused; those that run by then end when they answer."""
    go_on = asyncio.Event()
    decoder = Decoder()

    async def status(client: RawClient) -> tuple[int, str | None]:
        """The stream of the next headers, and the status in them."""
        frame = await client.next(HEADERS)
        fields = {str(name): str(value) for name, value in decoder.decode(frame.payload)}
        return frame.stream, fields.get("grpc-status")

    async def late(request: bytes, context: Any) -> bytes:
        await go_on.wait()
        return bytes(100_000)

    handlers: Handlers = {"Big": unary(big), "Late": unary(late)}
    async with serving(handlers, [("tai.max_queued_bytes", 150_000)]) as (server, client):
        client.call(1, path("Late"))
        await until(lambda: server._service.calls == 1)
        client.call(3, path("Big"))
        client.call(5, path("Big"))
        client.call(7, path("Big"))
        assert [await status(client) for _ in range(3)] == [(3, None), (5, None), (7, RESOURCE_EXHAUSTED)]
        go_on.set()
        assert await status(client) == (1, RESOURCE_EXHAUSTED)
        # What is taken makes room.
        client.send(*(Frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 200_000)) for stream in (0, 3, 5)))
        assert {await status(client) for _ in range(2)} == {(3, "0"), (5, "0")}
        client.call(9, path("Big"))
        assert await status(client) == (9, None)


@pytest.mark.parametrize("what", ["read", "write"])
async def test_a_handler_that_waits_is_told_at_once_that_its_call_was_failed(what: str) -> None:
    """It would wait for a client that may stay for ever."""
    told = asyncio.get_running_loop().create_future()

    async def wait(requests: Any, context: Any) -> None:
        try:
            await context.write(bytes(1000))
            while True:
                await (context.read() if what == "read" else context.write(bytes(50_000)))
        except aio.InternalError as error:
            told.set_result(str(error))
            raise

    async with serving({"Wait": chat(wait)}) as (_, client):
        client.send(Frame(HEADERS, END_HEADERS, 1, request(path("Wait"))))
        await client.next(HEADERS)
        client.send(Frame(DATA, 0, 1, message(b"x", compressed=7)))
        assert await told == "a message's compressed flag is neither 0 nor 1"


async def test_a_drain_does_not_wait_for_the_word_of_a_client_that_reads_nothing() -> None:
    """Which has no call under way: it learns of the GOAWAY when it reads."""
    async with serving({"Big": unary(big)}) as (server, client):
        await client.next(SETTINGS, flags=ACK)
        await server.stop(3600)
        said = await client.closed()
        assert [frame.payload[:4] for frame in said if frame.kind == GOAWAY] == [
            b"\x7f\xff\xff\xff",
            bytes(4),
        ]


async def test_a_drain_hurries_once_the_last_call_has_ended() -> None:
    go_on = asyncio.Event()

    async def late(request: bytes, context: Any) -> bytes:
        await go_on.wait()
        return b""

    async with serving({"Late": unary(late)}) as (server, client):
        client.call(1, path("Late"))
        await until(lambda: server._service.calls == 1)
        stopping = asyncio.create_task(server.stop(3600))
        await client.next(GOAWAY)
        client.send(Frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1000)))
        go_on.set()
        await client.closed()
        await stopping
