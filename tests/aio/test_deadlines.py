"""Deadlines both ways."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from grpc import StatusCode

from aio.link import BASIC, Link, Stuck, broken, failure, path, unary

TIMEOUTS = (0.1, 1.0, 10.0)
"""Tried in turn: on a busy machine a handler needs longer to begin."""


async def expired(begun: asyncio.Event, make: Callable[[float], Any]) -> Any:
    """Return a call that has met its deadline, after its handler had begun."""
    for timeout in TIMEOUTS:
        call = make(timeout)
        await call.code()
        if begun.is_set():
            return call
    raise AssertionError("no handler began")


async def test_a_deadline_ends_the_call_and_cancels_the_handler(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open({**BASIC, **stuck.handlers()})
    hang = channel.unary_unary(path("Unary"))
    call = await expired(stuck.begun, lambda timeout: hang(b"", timeout=timeout))
    error = await failure(call)
    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    assert "deadline exceeded" in error.details().lower()
    assert not call.cancelled()
    assert call.time_remaining() == 0
    await stuck.ended.wait()
    assert stuck.cancelled
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"


@pytest.mark.parametrize("kind", ["Split", "Chat"])
async def test_a_deadline_ends_a_stream_after_its_messages(link: Link, kind: str) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    for timeout in TIMEOUTS:
        if kind == "Split":
            call = channel.unary_stream(path("Split"))(b"", timeout=timeout)
        else:
            call = channel.stream_stream(path("Chat"))(timeout=timeout)
        messages, error = await broken(call)
        assert error.code() is StatusCode.DEADLINE_EXCEEDED
        if messages:
            break
    assert messages == [b"first"]
    await stuck.ended.wait()
    assert stuck.cancelled


async def test_a_deadline_ends_a_call_that_sends(link: Link) -> None:
    """Defect of grpc.aio: a write that meets the end of the call turns its status into INTERNAL."""
    stuck = Stuck()
    channel = await link.open(stuck.handlers())

    async def slowly() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    collect = channel.stream_unary(path("Collect"))
    call = await expired(stuck.begun, lambda timeout: collect(slowly(), timeout=timeout))
    code = (await failure(call)).code()
    assert code is StatusCode.DEADLINE_EXCEEDED or (link.is_grpcio and code is StatusCode.INTERNAL)
    await stuck.ended.wait()


@pytest.mark.parametrize("timeout", [-1, -0.001])
async def test_a_deadline_in_the_past(link: Link, timeout: float) -> None:
    channel = await link.open(BASIC)
    error = await failure(channel.unary_unary(path("Echo"))(b"", timeout=timeout))
    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    call = channel.stream_stream(path("Chat"))(timeout=timeout)
    assert await call.code() is StatusCode.DEADLINE_EXCEEDED


async def test_no_time_at_all(link: Link) -> None:
    """grpc.aio may still answer a call whose deadline is now."""
    channel = await link.open(BASIC)
    code = await channel.unary_unary(path("Echo"))(b"", timeout=0).code()
    assert code is StatusCode.DEADLINE_EXCEEDED or (link.is_grpcio and code is StatusCode.OK)


@pytest.mark.parametrize("timeout", [5, 30, 3600, 10**6])
async def test_the_handler_knows_the_time_it_has(link: Link, timeout: float) -> None:
    async def left(request: bytes, context: Any) -> bytes:
        return str(context.time_remaining()).encode()

    channel = await link.open({"Left": unary(left)})
    remaining = float(await channel.unary_unary(path("Left"))(b"", timeout=timeout))
    # Eight digits carry a timeout: what they cannot is rounded up.
    assert timeout * 0.5 <= remaining <= timeout * 1.01 + 0.1


async def test_a_timeout_of_decades_is_a_long_one(link: Link) -> None:
    """grpc.aio sends at most 27,000 hours. Defect of it: a deadline some 300 years away is in the past."""

    async def left(request: bytes, context: Any) -> bytes:
        return str(context.time_remaining()).encode()

    channel = await link.open({"Left": unary(left)})
    for timeout in (10.0**9,) if link.is_grpcio else (10.0**9, 10.0**10):
        assert float(await channel.unary_unary(path("Left"))(b"", timeout=timeout)) > 10**7


async def test_without_a_timeout_there_is_no_limit_to_know(link: Link) -> None:
    async def left(request: bytes, context: Any) -> bytes:
        return str(context.time_remaining()).encode()

    channel = await link.open({"Left": unary(left)})
    assert await channel.unary_unary(path("Left"))(b"") == b"None"


async def test_the_handlers_time_runs_down_to_zero(link: Link) -> None:
    seen: list[float] = []
    begun, ended = asyncio.Event(), asyncio.Event()

    async def watch(request: bytes, context: Any) -> bytes:
        begun.set()
        try:
            seen.append(context.time_remaining())
            await asyncio.Event().wait()
        finally:
            seen.append(context.time_remaining())
            ended.set()
        return request

    channel = await link.open({"Watch": unary(watch)})
    method = channel.unary_unary(path("Watch"))
    call = await expired(begun, lambda timeout: method(b"", timeout=timeout))
    assert await call.code() is StatusCode.DEADLINE_EXCEEDED
    await ended.wait()
    assert seen[0] > seen[1] >= 0


async def test_the_server_keeps_the_deadline_of_a_client_that_does_not(link: Link) -> None:
    """A client that has stopped its clock must not keep a handler for ever."""
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    await channel.channel_ready()
    call = channel.unary_unary(path("Unary"))(b"", timeout=1.0)
    await stuck.begun.wait()
    time.sleep(call.time_remaining() + 0.05)  # noqa: ASYNC251 - the loop, and the client in it, stands still
    await stuck.ended.wait()
    assert stuck.cancelled
    assert await call.code() is StatusCode.DEADLINE_EXCEEDED


async def test_an_answer_in_time_is_an_answer(link: Link) -> None:
    channel = await link.open(BASIC)
    assert await channel.unary_unary(path("Echo"))(b"x", timeout=20) == b"x"
    assert await channel.stream_unary(path("Join"))([b"x"], timeout=20) == b"x"


async def test_connecting_counts_against_the_deadline(link: Link, unused_tcp_port: int) -> None:
    channel = link.channel(f"127.0.0.1:{unused_tcp_port}")
    error = await failure(channel.unary_unary(path("Echo"))(b"", timeout=0.1, wait_for_ready=True))
    assert error.code() is StatusCode.DEADLINE_EXCEEDED


async def test_reading_waits_no_longer_than_the_deadline(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    await channel.channel_ready()
    call = channel.stream_stream(path("Chat"))(timeout=1.0)
    assert await call.read() == b"first"
    assert (await failure(call.read())).code() is StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"")
