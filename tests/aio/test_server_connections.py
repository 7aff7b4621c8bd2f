"""What becomes of connections: that say nothing, too much or too little, are idle, old, or one too many."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from aio.link import BASIC, SERVICE, Handlers, Options, Stuck, path, until
from aio.raw_client import (
    ACK,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Frame,
    RawClient,
    request,
)
from tai_grpc import aio

ENHANCE_YOUR_CALM = 11


@asynccontextmanager
async def serving(options: Options = (), handlers: Handlers = BASIC) -> AsyncIterator[tuple[Any, int]]:
    """A server on a free port; it is stopped, and has nothing left, at the end."""
    server: Any = aio.server(options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, dict(handlers)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield server, port
    finally:
        await server.stop(None)
    assert not server._service.connections
    assert (server._service.calls, server._service.admitted) == (0, 0)


def grpcio_channel(port: int) -> Any:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}")


async def echo(port: int) -> bytes:
    async with grpcio_channel(port) as channel:
        response: bytes = await channel.unary_unary(path("Echo"))(b"x", timeout=20)
    return response


async def says_nothing(client: RawClient) -> None:
    pass


async def says_half_of_the_preface(client: RawClient) -> None:
    client.send_bytes(PREFACE[:10])


async def sends_no_settings(client: RawClient) -> None:
    client.send_bytes(PREFACE)


async def begins_a_header_block(client: RawClient) -> None:
    client.hello()
    client.send(Frame(HEADERS, 0, 1, request(path("Echo"))))


@pytest.mark.parametrize(
    "begin", [says_nothing, says_half_of_the_preface, sends_no_settings, begins_a_header_block]
)
async def test_who_does_not_come_to_the_point_is_cut_off(
    begin: Callable[[RawClient], Coroutine[Any, Any, None]],
) -> None:
    async with serving((("grpc.server_handshake_timeout_ms", 100),)) as (_, port), RawClient(port) as client:
        await begin(client)
        await client.closed()
        assert await echo(port) == b"x"


async def test_who_came_to_the_point_may_be_silent_for_longer() -> None:
    """The deadline is for the beginning alone."""
    async with serving((("grpc.server_handshake_timeout_ms", 500),)) as (_, port), RawClient(port) as client:
        client.hello()
        await client.next(SETTINGS, flags=ACK)
        await asyncio.sleep(0.8)
        client.call(1, path("Echo"), b"still here")
        assert (await client.next(HEADERS)).stream == 1


async def test_a_dead_peer_is_found_by_a_ping() -> None:
    """It acknowledges none: the call that runs for it is cancelled."""
    stuck = Stuck()
    options = (("grpc.keepalive_time_ms", 50), ("grpc.keepalive_timeout_ms", 50))
    async with serving(options, stuck.handlers()) as (_, port), RawClient(port) as client:
        client.hello()
        client.call(1, path("Unary"))
        assert any(frame.kind == PING for frame in await client.closed())
        await stuck.ended.wait()
        assert stuck.cancelled


async def test_a_peer_that_answers_pings_is_left_alone() -> None:
    options = (("grpc.keepalive_time_ms", 20), ("grpc.keepalive_timeout_ms", 5000))
    async with serving(options) as (_, port), RawClient(port) as client:
        client.hello()
        for _ in range(3):
            ping = await client.next(PING)
            client.send(Frame(PING, ACK, 0, ping.payload))
        client.call(1, path("Echo"))
        assert (await client.next(HEADERS)).stream == 1


async def test_pings_without_calls_may_be_turned_off() -> None:
    options = (("grpc.keepalive_time_ms", 10), ("grpc.keepalive_permit_without_calls", 0))
    async with serving(options) as (_, port), RawClient(port) as client:
        client.hello()
        await client.next(SETTINGS, flags=ACK)
        await asyncio.sleep(0.1)
        client.call(1, path("Echo"))
        while (frame := await client.frame()) is not None and frame.kind != HEADERS:
            assert frame.kind != PING


async def test_who_pings_too_often_is_sent_away() -> None:
    async with serving() as (_, port), RawClient(port) as client:
        client.hello()
        client.send(*(Frame(PING, 0, 0, bytes(8)) for _ in range(8)))
        said = await client.closed()
        goaway = next(frame for frame in said if frame.kind == GOAWAY)
        assert goaway.payload[7] == ENHANCE_YOUR_CALM
        assert goaway.payload[8:] == b"too_many_pings"
        assert await echo(port) == b"x"


async def test_bytes_that_are_no_http2_end_their_connection_alone() -> None:
    async with serving() as (_, port), RawClient(port) as client:
        client.send_bytes(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        await client.closed()
        assert await echo(port) == b"x"


async def test_connections_over_the_limit_are_closed_and_the_others_served() -> None:
    async with serving((("tai.max_connections", 1),)) as (server, port), RawClient(port) as first:
        first.hello()
        await first.next(SETTINGS, flags=ACK)
        async with RawClient(port) as second:
            second.hello()
            assert await second.closed() == []
        first.call(1, path("Echo"))
        assert (await first.next(HEADERS)).stream == 1
        assert len(server._service.connections) == 1


async def test_an_idle_connection_is_told_to_go_and_closed() -> None:
    async with serving((("grpc.max_connection_idle_ms", 50),)) as (server, port), RawClient(port) as client:
        client.hello()
        ping = await client.next(PING)  # between the two GOAWAYs
        client.send(Frame(PING, ACK, 0, ping.payload))
        said = await client.closed()
        assert any(frame.kind == GOAWAY for frame in said)
        await until(lambda: not server._service.connections)


async def test_a_call_keeps_its_connection_from_being_idle() -> None:
    stuck = Stuck()
    options = (("grpc.max_connection_idle_ms", 30),)
    async with (
        serving(options, stuck.handlers()) as (_, port),
        grpcio_channel(port) as channel,
    ):
        call = channel.unary_unary(path("Unary"))(b"x")
        await stuck.begun.wait()
        await asyncio.sleep(0.1)
        stuck.release.set()
        assert await call == b"x"


async def test_a_drain_tells_both_goaways_and_ends_with_the_last_stream() -> None:
    stuck = Stuck()
    async with serving((), stuck.handlers()) as (server, port), RawClient(port) as client:
        client.hello()
        client.call(1, path("Unary"), b"x")
        await stuck.begun.wait()
        stopping = asyncio.create_task(server.stop(20))
        first = await client.next(GOAWAY)
        assert first.payload[:4] == b"\x7f\xff\xff\xff"
        # What was sent before the first GOAWAY was heard is still served.
        client.call(3, path("Unary"), b"y")
        client.send(Frame(PING, ACK, 0, (await client.next(PING)).payload))
        second = await client.next(GOAWAY)
        assert second.payload[:4] == b"\0\0\0\x03"
        stuck.release.set()
        assert {(await client.next(HEADERS)).stream for _ in range(2)} == {1, 3}
        await client.closed()
        await stopping
        assert not stuck.cancelled


async def test_reset_calls_are_cancelled_and_their_memory_given_back() -> None:
    stuck = Stuck()
    async with serving((), stuck.handlers()) as (server, port), RawClient(port) as client:
        client.hello()
        for number in range(100):
            client.call(2 * number + 1, path("Unary"))
        await until(lambda: server._service.calls == 100)
        client.send(*(Frame(RST_STREAM, 0, 2 * number + 1, b"\0\0\0\x08") for number in range(100)))
        await until(lambda: server._service.calls == 0)
        assert stuck.cancelled


async def test_a_request_without_its_end_begins_no_handler_and_leaves_with_its_connection() -> None:
    stuck = Stuck()
    async with serving((), stuck.handlers()) as (server, port):
        async with RawClient(port) as client:
            client.hello()
            client.send(Frame(HEADERS, END_HEADERS, 1, request(path("Unary"))))
            await until(lambda: server._service.admitted == 1)
            assert server._service.calls == 0
        await until(lambda: server._service.admitted == 0)
        assert not stuck.begun.is_set()


EXHAUSTED = """
import asyncio, resource, sys
import grpc
from tai_grpc import aio

async def echo(request, context):
    return request

async def main():
    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server = aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await server.stop(None)
    print("stopped", flush=True)

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


# asyncio accepts what it has descriptors for, then nothing for a second: with as many as uvloop it took 20.
@pytest.mark.parametrize(("loop", "connections"), [("asyncio", 150), ("uvloop", 1000)])
async def test_a_server_without_descriptors_serves_on_and_recovers(loop: str, connections: int) -> None:
    """More connections than the process has descriptors (64); when they are gone, it serves as before."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", EXHAUSTED, loop,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    port = int(await process.stdout.readline())

    async def knock() -> asyncio.StreamWriter | None:
        try:
            async with asyncio.timeout(1):
                return (await asyncio.open_connection("127.0.0.1", port))[1]
        except (OSError, TimeoutError):
            return None

    writers = await asyncio.gather(*(knock() for _ in range(connections)))
    for writer in writers:
        if writer is not None:
            writer.transport.abort()

    async def answered() -> bool:
        async with grpcio_channel(port) as channel:
            try:
                return bool(await channel.unary_unary("/s/Echo")(b"x", timeout=1) == b"x")
            except grpc.RpcError:
                return False

    while not await answered():
        pass
    process.stdin.write(b"\n")
    assert (await process.stdout.readline()) == b"stopped\n"
    await process.communicate()
    assert process.returncode == 0
