"""Much at once: many calls, many channels, long streams, large messages, slow readers and writers."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

from grpc import StatusCode

from aio.link import BASIC, Link, Stuck, collect, path, read_all, split, unary

MIB = 1024 * 1024
LIMITLESS = (("grpc.max_receive_message_length", -1),)


async def test_many_calls_at_once_on_one_channel(link: Link) -> None:
    channel = await link.open(BASIC)
    echo = channel.unary_unary(path("Echo"))
    answers = await asyncio.gather(*(echo(b"%d" % number) for number in range(1000)))
    assert answers == [b"%d" % number for number in range(1000)]


async def test_many_streams_at_once_keep_their_messages_apart(link: Link) -> None:
    channel = await link.open(BASIC)

    async def talk(number: int) -> None:
        call = channel.stream_stream(path("Chat"))()
        for turn in range(5):
            message = b"%d/%d" % (number, turn)
            await call.write(message)
            assert await call.read() == message
        await call.done_writing()
        assert await call.read() is link.rpc.EOF

    await asyncio.gather(*(talk(number) for number in range(100)))


async def test_many_channels_at_once(link: Link) -> None:
    _, target = await link.serve(BASIC)
    options = (("grpc.use_local_subchannel_pool", 1),)  # grpc.aio's channels share a connection otherwise
    channels = [link.channel(target, options=options) for _ in range(20)]
    answers = await asyncio.gather(*(channel.unary_unary(path("Echo"))(b"x") for channel in channels))
    assert answers == [b"x"] * 20


async def test_a_long_stream_from_the_server(link: Link) -> None:
    async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(5000):
            yield b"%d" % number

    channel = await link.open({"Count": split(count)})
    messages = await read_all(channel.unary_stream(path("Count"))(b""))
    assert messages == [b"%d" % number for number in range(5000)]


async def test_a_long_stream_from_the_client(link: Link) -> None:
    channel = await link.open(BASIC)
    parts = [b"%d," % number for number in range(5000)]
    assert await channel.stream_unary(path("Join"))(parts) == b"".join(parts)


async def test_sizes_around_every_boundary_arrive_whole(link: Link) -> None:
    """Frames have 16,384 bytes and windows 65,535 by default; a message has five bytes before it."""
    channel = await link.open(BASIC)
    boundaries = (0, 1, 16_384, 65_535, 131_072)
    sizes = [max(0, size + delta) for size in boundaries for delta in range(-7, 7)]
    pattern = bytes(range(251)) * (140_000 // 251)
    messages = [pattern[:size] for size in sizes]
    assert await read_all(channel.stream_stream(path("Chat"))(messages)) == messages
    echo = channel.unary_unary(path("Echo"))
    assert await asyncio.gather(*(echo(message) for message in messages)) == messages


async def test_a_large_message_both_ways(link: Link) -> None:
    _, target = await link.serve(BASIC, options=LIMITLESS)
    channel = link.channel(target, options=LIMITLESS)
    large = bytes(range(256)) * (16 * MIB // 256)
    assert await channel.unary_unary(path("Echo"))(large) == large


async def test_a_reader_that_does_not_read_stops_the_writer(link: Link) -> None:
    """Backpressure: the handler's writes must not pile up in memory without end."""
    written = 0

    async def pour(request: bytes, context: Any) -> AsyncIterator[bytes]:
        nonlocal written
        while True:
            yield bytes(MIB)
            written += 1

    channel = await link.open({"Pour": split(pour), **BASIC})
    call = channel.unary_stream(path("Pour"))(b"")
    assert len(await call.read()) == MIB
    seen = -1
    while seen != written:
        seen = written
        await asyncio.sleep(0.1)
    assert written < 64
    # The connection is not blocked for others, and the stream goes on when it is read.
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    for _ in range(written + 2):
        assert len(await call.read()) == MIB
    call.cancel()


async def test_a_handler_that_does_not_read_stops_the_client(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open({**stuck.handlers(), **BASIC})
    call = channel.stream_unary(path("Collect"))()
    written = 0

    async def pour() -> None:
        nonlocal written
        while True:
            await call.write(bytes(MIB))
            written += 1

    pouring = asyncio.create_task(pour())
    await stuck.begun.wait()
    seen = -1
    while seen != written:
        seen = written
        await asyncio.sleep(0.1)
    assert written < 64
    assert not pouring.done()
    assert await channel.unary_unary(path("Echo"))(b"x") == b"x"
    call.cancel()
    await asyncio.gather(pouring, return_exceptions=True)
    code = await call.code()
    # Defect of grpc.aio: a write that meets the end of the call turns its status into INTERNAL.
    assert code is StatusCode.CANCELLED or (link.is_grpcio and code is StatusCode.INTERNAL)


async def test_requests_of_an_endless_iterator_are_taken_as_the_handler_reads(link: Link) -> None:
    taken = itertools.count()

    async def ten(requests: AsyncIterator[bytes], context: Any) -> bytes:
        size = 0
        async for request in requests:
            size += len(request)
            if size >= 10 * MIB:
                break
        return b"%d" % size

    async def endless() -> AsyncIterator[bytes]:
        while True:
            next(taken)
            yield bytes(MIB)

    channel = await link.open({"Ten": collect(ten)})
    call = channel.stream_unary(path("Ten"))(endless())
    code = await call.code()
    # Defect of grpc.aio: a write that meets the end of the call turns its status into INTERNAL.
    assert code is StatusCode.OK or (link.is_grpcio and code is StatusCode.INTERNAL)
    assert next(taken) < 64


async def test_calls_and_cancels_in_a_storm(link: Link) -> None:
    """Whatever happens to others, a call is answered with what is its own."""
    stuck = Stuck()

    async def slow(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(0.001)
        return request

    channel = await link.open({**stuck.handlers(), "Slow": unary(slow)})

    async def answered(number: int) -> None:
        assert await channel.unary_unary(path("Slow"))(b"%d" % number) == b"%d" % number

    async def cancelled(number: int) -> None:
        call = channel.unary_stream(path("Split"))(b"")
        if number % 2:
            assert await call.read() == b"first"
        call.cancel()
        assert await call.code() is StatusCode.CANCELLED

    async def expired(number: int) -> None:
        call = channel.unary_unary(path("Unary"))(b"", timeout=0.001 * (1 + number % 7))
        assert await call.code() is StatusCode.DEADLINE_EXCEEDED

    kinds = (answered, cancelled, expired)
    await asyncio.gather(*(kinds[number % 3](number) for number in range(300)))
    assert await channel.unary_unary(path("Slow"))(b"after") == b"after"
