"""Call objects of streams: reading, writing, iterating, and the two styles that do not mix."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from aio.link import BASIC, Link, Stuck, broken, chat, collect, failure, path, read_all, split

MIXED = "may not be mixed"
FINISHED = r"RPC already finished\."
HALF_CLOSED = 'RPC is half closed after calling "done_writing"'


async def fails_later(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"1"
    yield b"2"
    await context.abort(StatusCode.ABORTED, "enough")


async def first(requests: AsyncIterator[bytes], context: Any) -> bytes:
    async for request in requests:
        return request
    return b"none"


async def one_answer(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    yield b"only"


async def refuse(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    await context.abort(StatusCode.ABORTED, "now")
    yield b""


async def test_reading_to_the_end_gives_eof_again_and_again(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.unary_stream(path("Split"))(b"ab")
    assert isinstance(call, link.rpc.UnaryStreamCall)
    assert [await call.read() for _ in range(4)] == [b"a", b"b", link.rpc.EOF, link.rpc.EOF]
    assert await call.code() is StatusCode.OK
    assert await call.details() == ""


async def test_eof_is_one_false_object(link: Link) -> None:
    channel = await link.open(BASIC)
    end = await channel.unary_stream(path("Split"))(b"").read()
    assert end is link.rpc.EOF
    assert not end
    assert end != b""


async def test_an_empty_message_is_not_the_end(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.stream_stream(path("Chat"))()
    await call.write(b"")
    assert await call.read() == b""
    await call.done_writing()
    assert await call.read() is link.rpc.EOF


async def test_iteration_can_be_left_and_taken_up_again(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.unary_stream(path("Split"))(b"abc")
    async for message in call:
        assert message == b"a"
        break
    assert await read_all(call) == [b"b", b"c"]
    assert await read_all(call) == []


async def test_a_stream_that_fails_gives_its_messages_first(link: Link) -> None:
    channel = await link.open({"Fails": split(fails_later)})
    call = channel.unary_stream(path("Fails"))(b"")
    messages, error = await broken(call)
    assert messages == [b"1", b"2"]
    assert (error.code(), error.details()) == (StatusCode.ABORTED, "enough")
    reading = channel.unary_stream(path("Fails"))(b"")
    assert [await reading.read(), await reading.read()] == [b"1", b"2"]
    for _ in range(2):
        assert (await failure(reading.read())).code() is StatusCode.ABORTED


async def test_writing_and_reading_in_turn(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.stream_stream(path("Chat"))()
    assert isinstance(call, link.rpc.StreamStreamCall)
    for number in range(5):
        await call.write(b"%d" % number)
        assert await call.read() == b"%d" % number
    await call.done_writing()
    assert await call.read() is link.rpc.EOF
    assert await call.code() is StatusCode.OK


async def test_writing_to_one_response(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.stream_unary(path("Join"))()
    assert isinstance(call, link.rpc.StreamUnaryCall)
    await call.write(b"a")
    await call.write(b"b")
    await call.done_writing()
    await call.done_writing()
    assert await call == b"ab"
    assert await call == b"ab"


async def test_writing_after_done_writing_and_after_the_end(link: Link) -> None:
    channel = await link.open(BASIC)
    call = channel.stream_stream(path("Chat"))()
    await call.write(b"a")
    await call.done_writing()
    with pytest.raises(asyncio.InvalidStateError, match=HALF_CLOSED):
        await call.write(b"b")
    assert await call.read() == b"a"
    assert await call.read() is link.rpc.EOF
    with pytest.raises(asyncio.InvalidStateError, match=FINISHED):
        await call.write(b"b")
    await call.done_writing()


async def test_no_request_at_all(link: Link) -> None:
    channel = await link.open(BASIC)
    assert await channel.stream_unary(path("Join"))([]) == b""
    assert await read_all(channel.stream_stream(path("Chat"))([])) == []
    call = channel.stream_stream(path("Chat"))()
    await call.done_writing()
    assert await call.read() is link.rpc.EOF


@pytest.mark.parametrize("kind", ["list", "iterator", "generator", "async generator", "async iterable"])
async def test_requests_come_from_any_iterable(link: Link, kind: str) -> None:
    def generator() -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    async def async_generator() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    class AsyncIterable:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return async_generator()

    made: dict[str, Any] = {
        "list": [b"a", b"b"],
        "iterator": iter((b"a", b"b")),
        "generator": generator(),
        "async generator": async_generator(),
        "async iterable": AsyncIterable(),
    }
    channel = await link.open(BASIC)
    assert await channel.stream_unary(path("Join"))(made[kind]) == b"ab"


async def test_requests_are_taken_as_they_are_wanted(link: Link) -> None:
    """The client asks its iterator for the next request only when the call goes on."""
    channel = await link.open(BASIC)
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def ask() -> AsyncIterator[bytes]:
        yield b"a"
        for _ in range(2):
            yield await answers.get() + b"!"

    received = []
    async for message in channel.stream_stream(path("Chat"))(ask()):
        received.append(message)
        answers.put_nowait(message)
    assert received == [b"a", b"a!", b"a!!"]


@pytest.mark.parametrize("requests", ["raises", "not iterable"])
async def test_requests_that_fail_cancel_the_call(link: Link, requests: str) -> None:
    async def bad() -> AsyncIterator[bytes]:
        yield b"1"
        raise ValueError("no more")

    channel = await link.open(BASIC)
    call = channel.stream_unary(path("Join"))(bad() if requests == "raises" else 5)
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await call.code() is StatusCode.CANCELLED
    stream = channel.stream_stream(path("Chat"))(bad() if requests == "raises" else 5)
    with pytest.raises(asyncio.CancelledError):
        await read_all(stream)


async def test_writing_to_a_call_with_an_iterator_is_a_usage_error(link: Link) -> None:
    channel = await link.open(BASIC)
    for call in (channel.stream_unary(path("Join"))([]), channel.stream_stream(path("Chat"))([])):
        with pytest.raises(link.rpc.UsageError, match=MIXED):
            await call.write(b"")
        with pytest.raises(link.rpc.UsageError, match=MIXED):
            await call.done_writing()
        assert await call.code() is StatusCode.OK


async def test_reading_what_is_iterated_and_iterating_what_is_read_are_usage_errors(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    iterated = channel.unary_stream(path("Split"))(b"")
    async for _ in iterated:
        break
    with pytest.raises(link.rpc.UsageError, match=MIXED):
        await iterated.read()
    read = channel.stream_stream(path("Chat"))()
    assert await read.read() == b"first"
    with pytest.raises(link.rpc.UsageError, match=MIXED):
        read.__aiter__()
    stuck.release.set()
    assert await read_all(iterated) == [b"last"]


async def test_a_server_that_answers_early_ends_the_call(link: Link) -> None:
    channel = await link.open({"First": collect(first), "One": chat(one_answer)})
    call = channel.stream_unary(path("First"))()
    await call.write(b"x")
    assert await call == b"x"
    call = channel.stream_stream(path("One"))()
    assert [await call.read(), await call.read()] == [b"only", link.rpc.EOF]
    with pytest.raises(asyncio.InvalidStateError, match=FINISHED):
        await call.write(b"late")


async def test_a_server_that_answers_early_ends_a_client_that_goes_on_sending(link: Link) -> None:
    """Defect of grpc.aio: a write that meets the end of the call turns its status into INTERNAL."""
    channel = await link.open({"First": collect(first), "One": chat(one_answer)})

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0)

    calls = [
        channel.stream_unary(path("First"))(endless()),
        channel.stream_stream(path("One"))(endless()),
    ]
    for call in calls:
        code = await call.code()
        assert code is StatusCode.OK or (link.is_grpcio and code is StatusCode.INTERNAL)


async def test_a_refusal_reaches_the_writer_and_the_reader(link: Link) -> None:
    channel = await link.open({"Refuse": chat(refuse)})
    call = channel.stream_stream(path("Refuse"))()
    assert await call.code() is StatusCode.ABORTED
    with pytest.raises(asyncio.InvalidStateError, match=FINISHED):
        await call.write(b"")
    error = await failure(call.read())
    assert (error.code(), error.details()) == (StatusCode.ABORTED, "now")
    messages, error = await broken(channel.stream_stream(path("Refuse"))([]))
    assert (messages, error.code()) == ([], StatusCode.ABORTED)


async def test_writes_fail_once_the_server_has_refused(link: Link) -> None:
    """A write that meets the refusal raises it; one that comes after the end says that the call is over.

    Defect of grpc.aio: a write that meets the refusal turns the call's status into INTERNAL.
    """
    channel = await link.open({"Refuse": chat(refuse)})
    call = channel.stream_stream(path("Refuse"))()
    with pytest.raises((link.rpc.AioRpcError, asyncio.InvalidStateError)):
        while True:
            await call.write(b"x" * 1000)
    code = await call.code()
    assert code is StatusCode.ABORTED or (link.is_grpcio and code is StatusCode.INTERNAL)


async def test_cancelling_a_stream_raises_in_its_reader(link: Link) -> None:
    stuck = Stuck()
    channel = await link.open(stuck.handlers())
    call = channel.unary_stream(path("Split"))(b"")
    assert await call.read() == b"first"
    assert call.cancel()
    assert not call.cancel()
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await call.read()
    assert await call.details() == "Locally cancelled by application!"
    await stuck.ended.wait()
    assert stuck.cancelled


async def test_a_writer_that_waits_for_room_is_told_that_the_call_has_ended(link: Link) -> None:
    """Also while a response is unread, so that the call is not done yet."""

    async def early(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        yield b"early"
        await asyncio.wait_for(full.wait(), 20)

    full = asyncio.Event()
    channel = await link.open({"Chat": chat(early)})
    call = channel.stream_stream(path("Chat"))(timeout=60)
    written = 0
    with pytest.raises((asyncio.InvalidStateError, grpc.RpcError)):
        while True:
            writing = asyncio.ensure_future(call.write(bytes(100_000)))
            done, _ = await asyncio.wait((writing,), timeout=0.2)
            if not done:
                full.set()
            await writing
            written += 1
    assert full.is_set()
    if not link.is_grpcio:  # which loses the response and the status
        assert await call.code() is StatusCode.OK
        assert await call.read() == b"early"
