"""The grpcio transport against real servers: what it reports of an attempt."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode

from client.kinds import Context, Item, Kinds, Process, failing, serve, unused_address
from tai_grpc.config import GrpcClientConfig
from tai_grpc.transport.base import CallOptions
from tai_grpc.transport.grpcio import GrpcioTransport

ONE = "/kinds.v1.Kinds/One"
SPLIT = "/kinds.v1.Kinds/Split"
CHAT = "/kinds.v1.Kinds/Chat"


@pytest.fixture
def kinds() -> Kinds:
    return Kinds()


@pytest.fixture
async def transport(kinds: Kinds) -> AsyncIterator[GrpcioTransport]:
    async with serve(kinds) as address:
        subject = GrpcioTransport(address, GrpcClientConfig())
        yield subject
        await subject.close()


@pytest.fixture
async def unreachable() -> AsyncIterator[GrpcioTransport]:
    subject = GrpcioTransport(unused_address(), GrpcClientConfig())
    yield subject
    await subject.close()


async def test_a_unary_attempt_carries_bytes_and_metadata_both_ways(
    kinds: Kinds, transport: GrpcioTransport
) -> None:
    request = Item(text="a").SerializeToString()
    reply = await transport.unary(ONE, request, CallOptions(metadata=(("asked", "yes"),)))
    assert (reply.code, reply.message, reply.sent) == (StatusCode.OK, request, True)
    assert kinds.calls[0]["asked"] == "yes"
    kinds.one = failing(StatusCode.ABORTED, headers=(("early", "1"),), trailers=(("late", "2"),))
    reply = await transport.unary(ONE, request, CallOptions())
    assert (reply.code, reply.details) == (StatusCode.ABORTED, "as the test wants it")
    assert (("early", "1") in reply.initial_metadata, ("late", "2") in reply.trailing_metadata) == (
        True,
        True,
    )


async def test_what_never_left_is_told_from_what_failed(kinds: Kinds, unreachable: GrpcioTransport) -> None:
    reply = await unreachable.unary(ONE, b"", CallOptions())
    assert (reply.code, reply.sent) == (StatusCode.UNAVAILABLE, False)
    attempt = unreachable.stream(CHAT, None, CallOptions())
    assert not await attempt.connected()
    assert not (await attempt.status()).sent
    attempt = unreachable.stream(SPLIT, b"", CallOptions())
    assert not await attempt.answered()
    assert not (await attempt.status()).sent


async def test_a_server_that_reports_such_a_failure_of_its_own_was_reached(
    kinds: Kinds, transport: GrpcioTransport
) -> None:
    """A proxy may pass on the very words that grpcio uses."""

    async def one(_request: Any, context: Context) -> Any:
        await context.abort(StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: ...")

    kinds.one = one
    assert (await transport.unary(ONE, b"", CallOptions())).sent


@pytest.mark.parametrize(("headers", "answered"), [(None, False), ((), True), ((("a", "1"),), True)])
async def test_a_stream_that_only_fails_is_told_from_one_that_was_answered(
    kinds: Kinds, transport: GrpcioTransport, headers: tuple[tuple[str, str], ...] | None, answered: bool
) -> None:
    """Headers without an entry count as an answer when the failure comes later than they."""
    go_on = asyncio.Event()

    async def split(_request: Any, context: Context) -> AsyncIterator[Any]:
        if headers is not None:
            await context.send_initial_metadata(headers)
            await go_on.wait()
        await context.abort(StatusCode.UNAVAILABLE, "failed")
        yield

    kinds.split = split
    attempt = transport.stream(SPLIT, b"", CallOptions())
    assert await attempt.answered() is answered
    go_on.set()
    assert await attempt.read() is None
    assert (await attempt.status()).code is StatusCode.UNAVAILABLE


async def test_a_stream_without_messages_was_answered(kinds: Kinds, transport: GrpcioTransport) -> None:
    attempt = transport.stream(SPLIT, Item(text="").SerializeToString(), CallOptions())
    assert await attempt.answered()
    assert await attempt.read() is None
    assert (await attempt.status()).code is StatusCode.OK


async def test_the_first_message_is_not_lost_while_waiting_for_an_answer(transport: GrpcioTransport) -> None:
    attempt = transport.stream(SPLIT, Item(text="a b").SerializeToString(), CallOptions())
    assert await attempt.answered()
    read = [await attempt.read() for _ in range(3)]
    assert read == [Item(text="a").SerializeToString(), Item(text="b").SerializeToString(), None]


async def test_an_attempt_can_be_cancelled_while_it_is_read_and_written(transport: GrpcioTransport) -> None:
    attempt = transport.stream(CHAT, None, CallOptions())
    assert await attempt.connected()
    reading = asyncio.create_task(attempt.read())
    await asyncio.sleep(0)
    attempt.cancel()
    assert await reading is None
    assert (await attempt.status()).code is StatusCode.CANCELLED
    assert not await attempt.write(b"")
    await attempt.done_writing()


async def test_a_message_over_the_limit_is_refused() -> None:
    async with serve(Kinds()) as address:
        subject = GrpcioTransport(address, GrpcClientConfig(max_message_bytes=1000))
        reply = await subject.unary(ONE, Item(text="x" * 2000).SerializeToString(), CallOptions())
        assert reply.code is StatusCode.RESOURCE_EXHAUSTED
        await subject.close()


async def test_reconnect_does_not_wait_for_the_backoff() -> None:
    kinds = Kinds()
    async with serve(kinds) as address:
        pass
    subject = GrpcioTransport(address, GrpcClientConfig(connect_backoff_max=3600.0))
    for _ in range(3):
        subject.reconnect()
        assert not (await subject.unary(ONE, b"", CallOptions())).sent
    async with serve(kinds, int(address.rpartition(":")[2])):
        subject.reconnect()
        assert (await subject.unary(ONE, b"", CallOptions())).code is StatusCode.OK
        await subject.close()


async def test_a_call_that_waits_survives_a_reconnect() -> None:
    """It was told to wait until the endpoint is there, and the endpoint comes."""
    kinds = Kinds()
    async with serve(kinds) as address:
        pass
    subject = GrpcioTransport(address, GrpcClientConfig(connect_backoff_max=0.1))
    waiting = asyncio.create_task(subject.unary(ONE, b"", CallOptions(timeout=30.0, wait_for_ready=True)))
    assert not (await subject.unary(ONE, b"", CallOptions())).sent
    subject.reconnect()
    async with serve(kinds, int(address.rpartition(":")[2])):
        assert (await waiting).code is StatusCode.OK
        await subject.close()


async def test_an_attempt_that_waits_on_an_earlier_connection_can_be_cancelled(
    unreachable: GrpcioTransport,
) -> None:
    waiting = asyncio.create_task(unreachable.unary(ONE, b"", CallOptions(wait_for_ready=True)))
    assert not (await unreachable.unary(ONE, b"", CallOptions())).sent
    unreachable.reconnect()
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await unreachable.close()


async def test_a_server_that_stopped_answering_is_noticed() -> None:
    """A stopped process keeps its connections; only its silence shows that nobody is there."""
    process = Process()
    await process.start()
    subject = GrpcioTransport(process.address, GrpcClientConfig(keepalive=1.0))
    try:
        attempt = subject.stream(CHAT, None, CallOptions())
        assert await attempt.connected()
        assert await attempt.write(Item(text="a").SerializeToString())
        assert await attempt.read() == Item(text="A").SerializeToString()
        os.kill(process.pid, signal.SIGSTOP)
        assert await attempt.read() is None
        assert (await attempt.status()).code is StatusCode.UNAVAILABLE
    finally:
        await subject.close()
        await process.kill()
