"""Blocking channels whose connection ends while nobody reads, and calls that wait for another one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from aio.link import until
from aio.peer import Peer, scripted
from tai_grpc import aio

METHOD = "/test.Scripted/Call"


@pytest.fixture
def opened() -> Iterator[Callable[[str], aio.BlockingChannel]]:
    """Open channels, closed at the end."""
    channels: list[aio.BlockingChannel] = []

    def make(target: str) -> aio.BlockingChannel:
        far = ("grpc.initial_reconnect_backoff_ms", 3_600_000)  # nothing fails unless it is to
        channels.append(aio.blocking_channel(target, options=[far]))
        return channels[-1]

    yield make
    for channel in channels:
        channel.close()


async def answers(peer: Peer) -> None:
    await peer.start()
    while True:
        peer.answer(await peer.whole_request(), b"new")


@pytest.mark.parametrize("how", ["closed", "closed after a ping", "goaway"])
async def test_a_connection_that_ended_while_it_was_idle_fails_no_call(opened: Any, how: str) -> None:
    idle, ended = asyncio.Event(), asyncio.Event()

    async def ends(peer: Peer) -> None:
        await peer.start()
        stream = await peer.whole_request()
        peer.answer(stream)
        await idle.wait()
        if how == "goaway":
            peer.goaway(stream)
            await peer._writer.drain()
        else:
            if how != "closed":
                peer.send(6, 0, 0, bytes(8))
            peer.close()
            await peer._writer.wait_closed()
        ended.set()
        if how == "goaway":
            await peer.closed()

    async with scripted(ends, answers) as scene:
        call = opened(scene.target).unary_unary(METHOD)
        assert await asyncio.to_thread(call, b"") == b"answer"
        idle.set()
        await ended.wait()
        assert await asyncio.to_thread(call, b"", timeout=20) == b"new"
        assert scene.connections == 2


async def leaves(peer: Peer) -> None:
    """Say that nothing was processed, and go."""
    await peer.start()
    await peer.request()
    peer.goaway(0)


@pytest.mark.parametrize("answered", [True, False], ids=["connecting", "waiting"])
async def test_a_call_that_waits_for_another_connection_can_be_cancelled(opened: Any, answered: bool) -> None:
    """While its thread connects, and while it waits until it may try again."""

    async def unready(peer: Peer) -> None:
        if answered:
            connecting.set()
            await peer.closed()

    connecting = asyncio.Event()
    async with scripted(leaves, unready) as scene:
        channel = opened(scene.target)
        call = await asyncio.to_thread(channel.unary_stream(METHOD), b"", wait_for_ready=True)
        reading = asyncio.ensure_future(asyncio.to_thread(call.code))
        if answered:
            await connecting.wait()
        else:
            await until(lambda: channel.keeper._failures == 1)
        assert call.is_active()
        assert await asyncio.to_thread(call.cancel)
        assert await reading is StatusCode.CANCELLED
        assert call.details() == "Locally cancelled by application!"
        assert not call.is_active()
        assert not call.cancel()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_name_that_does_not_resolve_leaves_nothing_open(opened: Any) -> None:
    call = opened("no.such.host.invalid:1").unary_unary(METHOD)
    before = descriptors()
    with pytest.raises(aio.BlockingRpcError) as caught:
        await asyncio.to_thread(call, b"")
    assert caught.value.code() is StatusCode.UNAVAILABLE
    assert descriptors() == before
