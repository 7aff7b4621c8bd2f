"""Nothing is left behind: not memory, not tasks, not descriptors, however calls and connections end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from aio.link import BASIC, SERVICE, path, until
from aio.peer import Peer, scripted
from tai_grpc import aio
from tai_grpc._ext.aio.connection import Connection

METHOD = "/test.Leaks/Call"
MIB = 1024 * 1024


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


async def holds_level(work: Callable[[int], Awaitable[None]], count: int) -> None:
    """Do it `count` times after as many to get warm; assert that it leaves nothing behind.

    The process has memory and objects of its own doing, but a leak would show every time.
    """
    await work(count)
    for _ in range(3):
        before, memory = objects(), resident()
        tasks, descriptors = len(asyncio.all_tasks()), descriptors_open()
        await work(count)
        await asyncio.sleep(0)
        growth = {
            "objects": (objects() - before) // 100,
            "MiB": (resident() - memory) // MIB,
            "tasks": len(asyncio.all_tasks()) - tasks,
            "descriptors": descriptors_open() - descriptors,
        }
        if max(growth.values()) <= 0:
            return
    raise AssertionError(f"left behind each time: {growth}")


async def answers(peer: Peer) -> None:
    await peer.start()
    while True:
        peer.answer(await peer.request())


async def begins(peer: Peer) -> None:
    """Begin to answer every call, and end none."""
    await peer.start()
    while True:
        stream = await peer.request()
        peer.headers(stream)
        peer.message(stream, b"first")


async def leaves(peer: Peer) -> None:
    """Answer one call and end the connection."""
    await peer.start()
    stream = await peer.request()
    peer.answer(stream)
    peer.goaway(stream)
    await peer.closed()


async def test_ten_thousand_calls() -> None:
    async with scripted(answers) as scene, aio.insecure_channel(scene.target) as channel:
        method = channel.unary_unary(METHOD)

        async def work(count: int) -> None:
            for _ in range(count // 50):
                await asyncio.gather(
                    *(method(b"x" * 100, timeout=60, metadata=(("a", "b"),)) for _ in range(50))
                )

        await holds_level(work, 5000)


@pytest.mark.parametrize("how", ["cancelled", "dropped", "expired"])
async def test_a_thousand_calls_given_up(how: str) -> None:
    async with scripted(begins) as scene, aio.insecure_channel(scene.target) as channel:
        method = channel.stream_stream(METHOD)

        async def give_up() -> None:
            call = method(timeout=0.02 if how == "expired" else 60)
            if how == "expired":
                with suppress(aio.AioRpcError, asyncio.InvalidStateError):  # it is over already
                    await call.write(b"x" * 100)
                assert await call.code() is StatusCode.DEADLINE_EXCEEDED
                return
            await call.write(b"x" * 100)
            assert await call.read() == b"first"
            if how == "cancelled":
                call.cancel()

        async def work(count: int) -> None:
            for _ in range(count // 50):
                await asyncio.gather(*(give_up() for _ in range(50)))

        await holds_level(work, 500)


async def test_a_thousand_connections() -> None:
    async with scripted(leaves) as scene, aio.insecure_channel(scene.target) as channel:
        method = channel.unary_unary(METHOD)

        async def work(count: int) -> None:
            for _ in range(count):
                assert await method(b"") == b"answer"

        await holds_level(work, 500)
        assert scene.connections >= 1000


async def test_hundreds_of_channels() -> None:
    async with scripted(answers) as scene:

        async def work(count: int) -> None:
            for _ in range(count):
                async with aio.insecure_channel(scene.target) as channel:
                    assert await channel.unary_unary(METHOD)(b"") == b"answer"

        await holds_level(work, 200)


async def test_a_connection_that_is_closed_waits_for_no_collector() -> None:
    """At either end, and whoever still holds one of its calls."""
    server = aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, dict(BASIC)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    def connections() -> list[object]:
        return [each for each in gc.get_objects() if isinstance(each, Connection)]

    gc.collect()
    assert not connections()
    gc.disable()
    try:
        channel = aio.insecure_channel(f"127.0.0.1:{port}")
        call = channel.unary_unary(path("Echo"))(b"x")
        assert await call == b"x"
        assert len(connections()) == 2
        await channel.close()
        await until(lambda: len(connections()) == 1)
        assert "ClientConnection" in repr(connections())
        del call
        await until(lambda: not connections())
    finally:
        gc.enable()
    await server.stop(None)
