"""Cancellation both ways: calls, tasks, lost peers, and what a handler sees of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from aio.link import BASIC, Link, Stuck, collect, failure, path, split, unary, until


def start(channel: Any, kind: str) -> Any:
    """Start a call of this kind of a Stuck."""
    if kind == "Unary":
        return channel.unary_unary(path(kind))(b"")
    if kind == "Split":
        return channel.unary_stream(path(kind))(b"")
    if kind == "Collect":
        return channel.stream_unary(path(kind))()
    return channel.stream_stream(path(kind))()


KINDS = ("Unary", "Split", "Collect", "Chat")


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_a_call_cancels_its_handler(link: Link, kind: str) -> None:
    stuck = Stuck()
    channel = await link.open({**BASIC, **stuck.handlers()})
    call = start(channel, kind)
    if kind in ("Split", "Chat"):
        assert await call.read() == b"first"
    await stuck.begun.wait()
    assert call.cancel()
    assert call.done()
    assert await call.code() is StatusCode.CANCELLED
    assert await call.details() == "Locally cancelled by application!"
    await stuck.ended.wait()
    assert stuck.cancelled
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_the_task_that_waits_cancels_the_call(link: Link, kind: str) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    call = start(channel, kind)

    entered = asyncio.Event()

    async def wait() -> Any:
        if kind in ("Unary", "Collect"):
            entered.set()
            await call
        async for _ in call:
            entered.set()

    waiting = asyncio.create_task(wait())
    # Defect of grpc.aio: a cancellation that meets an arriving message may be lost. So none is on its way.
    await entered.wait()
    await stuck.begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await call.code() is StatusCode.CANCELLED
    assert call.cancelled()
    await stuck.ended.wait()
    assert stuck.cancelled


async def test_a_timeout_of_asyncio_cancels_the_call(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    call = channel.unary_unary(path("Unary"))(b"")
    await stuck.begun.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await call
    assert call.cancelled()
    await stuck.ended.wait()


async def test_cancelling_one_who_asks_for_the_code_leaves_the_call_alone(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    call = channel.unary_unary(path("Unary"))(b"x")
    asking = [asyncio.create_task(call.code()) for _ in range(2)]
    await stuck.begun.wait()
    asking[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking[0]
    assert not call.done()
    stuck.release.set()
    assert await call == b"x"
    assert await asking[1] is StatusCode.OK


async def test_cancelling_a_blocked_write_cancels_the_call(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    call = channel.stream_unary(path("Collect"))()

    async def flood() -> None:
        while True:
            await call.write(bytes(100_000))

    writing = asyncio.create_task(flood())
    await stuck.begun.wait()
    await asyncio.sleep(0.05)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert call.cancelled()
    await stuck.ended.wait()


async def test_a_handler_that_suppresses_its_cancellation_harms_nobody(link: Link) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def stubborn(request: bytes, context: Any) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        ended.set()
        return b"too late"

    channel = await link.open({"Stubborn": unary(stubborn), **BASIC})
    call = channel.unary_unary(path("Stubborn"))(b"")
    await begun.wait()
    call.cancel()
    await ended.wait()
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"


async def test_a_generator_that_is_cancelled_runs_its_finally(link: Link) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                begun.set()
                yield b"x" * 10_000
        finally:
            ended.set()

    channel = await link.open({"Count": split(count)})
    call = channel.unary_stream(path("Count"))(b"")
    await begun.wait()
    assert await call.read() == b"x" * 10_000
    call.cancel()
    await ended.wait()


async def test_a_client_that_goes_away_cancels_its_handlers(link: Link) -> None:
    stuck = Stuck()
    _, target = await link.serve(stuck.handlers())
    channel = link.channel(target)
    call = channel.unary_unary(path("Unary"))(b"")
    await stuck.begun.wait()
    await channel.close()
    await stuck.ended.wait()
    assert stuck.cancelled
    assert call.cancelled()


async def test_a_connection_that_breaks_ends_both_sides(link: Link) -> None:
    """The client sees UNAVAILABLE, the handler is cancelled."""
    stuck = Stuck()
    _, target = await link.serve(stuck.handlers())
    host, _, port = target.rpartition(":")
    pipes: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        pipes.update((writer, to_writer))
        await asyncio.gather(pump(reader, to_writer), pump(to_reader, writer))

    between = await asyncio.start_server(relay, "127.0.0.1", 0)
    channel = link.channel(f"127.0.0.1:{between.sockets[0].getsockname()[1]}")
    call = channel.unary_unary(path("Unary"))(b"")
    await stuck.begun.wait()
    between.close()
    for pipe in pipes:
        pipe.transport.abort()
    error = await failure(call)
    assert error.code() is StatusCode.UNAVAILABLE
    await stuck.ended.wait()
    assert stuck.cancelled


async def test_the_context_in_a_cancelled_handler(link: Link) -> None:
    """The handler is told by CancelledError; its context has no status: none was sent."""
    seen: list[Any] = []
    begun, ended = asyncio.Event(), asyncio.Event()

    async def look(request: bytes, context: Any) -> bytes:
        context.add_done_callback(lambda ended_context: seen.append(("callback", ended_context.code())))
        context.add_done_callback(lambda _: ended.set())
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(("handler", context.code()))
        return request

    channel = await link.open({"Look": unary(look)})
    call = channel.unary_unary(path("Look"))(b"")
    await begun.wait()
    call.cancel()
    await ended.wait()
    assert seen == [("handler", None), ("callback", None)]


async def test_reading_requests_of_a_cancelled_call_is_cancelled(link: Link) -> None:
    """Defect of grpc.aio: the requests may end as if they were complete."""
    first, ended = asyncio.Event(), asyncio.Event()
    raised: list[BaseException] = []

    async def gather(requests: AsyncIterator[bytes], context: Any) -> bytes:
        try:
            async for _ in requests:
                first.set()
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()
        return b"complete"

    channel = await link.open({"Gather": collect(gather)})
    call = channel.stream_unary(path("Gather"))()
    await call.write(b"1")
    await first.wait()
    call.cancel()
    await ended.wait()
    assert [type(error) for error in raised] == [asyncio.CancelledError] or (link.is_grpcio and not raised)


async def test_a_done_callback_that_is_cancelled_harms_no_other_call(link: Link) -> None:
    """As `future.result()` raises it; the callbacks after it are called."""
    stuck = Stuck()
    called: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: called.append("reported"))

    def cancelled(_: Any) -> None:
        raise asyncio.CancelledError

    async def tell(request: bytes, context: Any) -> bytes:
        context.add_done_callback(cancelled)
        context.add_done_callback(lambda _: called.append("server"))
        return request

    channel = await link.open({**stuck.handlers(), "Tell": unary(tell)})
    other = channel.unary_unary(path("Unary"))(b"other")
    await stuck.begun.wait()
    call = channel.unary_unary(path("Tell"))(b"x")
    call.add_done_callback(cancelled)
    call.add_done_callback(lambda _: called.append("client"))
    with suppress(asyncio.CancelledError, grpc.RpcError):  # which grpc.aio's own call then ends with
        assert await call == b"x"
    await until(lambda: {"client", "server"} <= set(called) or link.is_grpcio)
    stuck.release.set()
    assert await other == b"other"


async def test_many_cancelled_calls_leave_the_channel_working(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open({**BASIC, **stuck.handlers()})
    for number in range(100):
        call = channel.unary_unary(path("Unary"))(b"")
        if number % 2:
            await asyncio.sleep(0)
        call.cancel()
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"


async def test_a_cancelled_call_frees_its_place(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open({**BASIC, **stuck.handlers()}, maximum_concurrent_rpcs=1)
    call = channel.unary_unary(path("Unary"))(b"")
    await stuck.begun.wait()
    call.cancel()
    await stuck.ended.wait()
    # The place is free as soon as the server has put the call away.
    while await channel.unary_unary(path("Echo"))(b"x").code() is not StatusCode.OK:
        pass
