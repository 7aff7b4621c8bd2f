"""What a handler learns and does by its context, besides the status."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from aio.link import BASIC, Link, chat, collect, failure, path, read_all, split, unary


async def test_a_plain_callers_identity(link: Link) -> None:
    seen: dict[str, Any] = {}

    async def look(request: bytes, context: Any) -> bytes:
        seen["peer"] = context.peer()
        seen["identities"] = context.peer_identities()
        seen["key"] = context.peer_identity_key()
        seen["auth"] = context.auth_context()
        return request

    channel = await link.open({"Look": unary(look)})
    await channel.unary_unary(path("Look"))(b"")
    kind, _, port = seen["peer"].rpartition(":")
    assert kind == "ipv4:127.0.0.1"
    assert 0 < int(port) < 65536
    assert seen["identities"] is None
    assert seen["key"] is None
    # grpc.aio names the transport's kind here; that no one is identified is what counts.
    assert set(seen["auth"]) <= {"transport_security_type", "security_level"}


async def test_a_call_begins_without_a_status(link: Link) -> None:
    seen: list[Any] = []

    async def look(request: bytes, context: Any) -> bytes:
        seen.append((context.code(), context.details(), context.trailing_metadata()))
        seen.append((context.done(), context.cancelled()))
        return request

    channel = await link.open({"Look": unary(look)})
    await channel.unary_unary(path("Look"))(b"")
    assert seen == [(None, "", ()), (False, False)]


async def test_done_callbacks_run_after_the_handler(link: Link) -> None:
    order: list[Any] = []
    called = asyncio.Event()

    async def work(request: bytes, context: Any) -> bytes:
        context.add_done_callback(lambda ended: order.append(("first", ended is context, ended.done())))
        context.add_done_callback(lambda ended: called.set())
        order.append("handler")
        return request

    channel = await link.open({"Work": unary(work)})
    assert await channel.unary_unary(path("Work"))(b"x") == b"x"
    await called.wait()
    assert order == ["handler", ("first", True, True)]


async def test_done_callbacks_of_a_refused_call_see_its_status(link: Link) -> None:
    seen: list[Any] = []
    called = asyncio.Event()

    async def refuse(request: bytes, context: Any) -> bytes:
        def note(ended: Any) -> None:
            seen.append((ended.code(), ended.details(), ended.cancelled()))
            called.set()

        context.add_done_callback(note)
        code = StatusCode.CANCELLED if request else StatusCode.ABORTED
        await context.abort(code, "no")
        raise AssertionError

    channel = await link.open({"Refuse": unary(refuse)})
    for request in (b"", b"cancelled"):
        await failure(channel.unary_unary(path("Refuse"))(request))
        await called.wait()
        called.clear()
    assert seen == [(StatusCode.ABORTED, "no", False), (StatusCode.CANCELLED, "no", True)]


async def test_a_done_callback_that_fails_harms_nobody(link: Link) -> None:
    called = asyncio.Event()

    async def work(request: bytes, context: Any) -> bytes:
        def fail(ended: Any) -> None:
            called.set()
            raise ValueError("a callback's")

        context.add_done_callback(fail)
        return request

    channel = await link.open({"Work": unary(work)})
    for _ in range(2):
        assert await channel.unary_unary(path("Work"))(b"x") == b"x"
        await called.wait()
        called.clear()


async def test_writing_responses_instead_of_yielding_them(link: Link) -> None:
    async def count(request: bytes, context: Any) -> bytes:
        for number in range(3):
            await context.write(b"%d" % number)
        return b"not sent"

    channel = await link.open({"Count": split(count)})
    assert await read_all(channel.unary_stream(path("Count"))(b"")) == [b"0", b"1", b"2"]


async def test_reading_requests_instead_of_iterating_them(link: Link) -> None:
    async def gather(requests: AsyncIterator[bytes], context: Any) -> bytes:
        gathered = []
        while (request := await context.read()) is not link.rpc.EOF:
            gathered.append(request)
        assert await context.read() is link.rpc.EOF
        return b"+".join(gathered)

    async def mirror(requests: AsyncIterator[bytes], context: Any) -> None:
        while (request := await context.read()) is not link.rpc.EOF:
            await context.write(request)

    channel = await link.open({"Gather": collect(gather), "Mirror": chat(mirror)})
    assert await channel.stream_unary(path("Gather"))([b"a", b"", b"b"]) == b"a++b"
    assert await channel.stream_unary(path("Gather"))([]) == b""
    assert await read_all(channel.stream_stream(path("Mirror"))([b"a", b"b"])) == [b"a", b"b"]


async def test_a_handler_may_mix_reading_and_iterating(link: Link) -> None:
    async def gather(requests: AsyncIterator[bytes], context: Any) -> bytes:
        gathered = []
        async for request in requests:
            gathered.append(request)
            break
        gathered.append(await context.read())
        gathered.extend([request async for request in requests])
        return b"".join(gathered)

    channel = await link.open({"Gather": collect(gather)})
    assert await channel.stream_unary(path("Gather"))([b"a", b"b", b"c", b"d"]) == b"abcd"


async def test_requests_can_be_had_one_by_one(link: Link) -> None:
    async def gather(requests: Any, context: Any) -> bytes:
        first: bytes = await requests.__anext__()
        second: bytes = await anext(requests)
        rest = [request async for request in requests]
        with pytest.raises(StopAsyncIteration):
            await anext(requests)
        return first + b"|" + second + b"|" + b"".join(rest)

    channel = await link.open({"Gather": collect(gather)})
    assert await channel.stream_unary(path("Gather"))([b"a", b"b", b"c", b"d"]) == b"a|b|cd"


async def test_a_handler_need_not_read_its_requests(link: Link) -> None:
    async def ignore(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"ignored"

    channel = await link.open({"Ignore": collect(ignore)})
    assert await channel.stream_unary(path("Ignore"))([]) == b"ignored"
    call = channel.stream_unary(path("Ignore"))()
    assert await call == b"ignored"


async def test_the_end_of_the_requests_is_not_the_end_of_the_call(link: Link) -> None:
    """Half-close: a handler goes on sending after its last request."""

    async def answer(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        count = 0
        async for _ in requests:
            count += 1
        for number in range(count):
            await asyncio.sleep(0)
            yield b"%d" % number

    channel = await link.open({"Answer": chat(answer)})
    call = channel.stream_stream(path("Answer"))()
    for _ in range(3):
        await call.write(b"x")
    await call.done_writing()
    assert await read_all(call) == [b"0", b"1", b"2"]


async def test_the_server_may_speak_first_and_alone(link: Link) -> None:
    async def speak(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        yield b"hello"
        async for _ in requests:
            pass
        yield b"bye"

    channel = await link.open({"Speak": chat(speak)})
    call = channel.stream_stream(path("Speak"))()
    assert await call.read() == b"hello"
    await call.done_writing()
    assert await call.read() == b"bye"
    assert await call.read() is link.rpc.EOF


async def test_two_tasks_of_one_handler_may_write_in_turn(link: Link) -> None:
    async def fan(request: bytes, context: Any) -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(context.write(b"1"))
            await first
            await group.create_task(context.write(b"2"))

    channel = await link.open({"Fan": split(fan)})
    assert await read_all(channel.unary_stream(path("Fan"))(b"")) == [b"1", b"2"]


async def test_compression_is_chosen_before_initial_metadata(link: Link) -> None:
    raised: list[BaseException] = []

    async def late(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata(())
        try:
            context.set_compression(grpc.Compression.Gzip)
        except RuntimeError as error:
            raised.append(error)
        return request

    channel = await link.open({"Late": unary(late)})
    assert await channel.unary_unary(path("Late"))(b"x") == b"x"
    assert len(raised) == 1


async def test_a_context_after_its_call_refuses(link: Link) -> None:
    kept: list[Any] = []

    async def keep(request: bytes, context: Any) -> AsyncIterator[bytes]:
        kept.append(context)
        yield request

    channel = await link.open({"Keep": split(keep), **BASIC})
    assert await read_all(channel.unary_stream(path("Keep"))(b"x")) == [b"x"]
    (context,) = kept
    assert context.done()
    with pytest.raises(link.rpc.UsageError, match="RPC already finished"):
        await context.write(b"late")
    with pytest.raises(link.rpc.UsageError, match="RPC already finished"):
        await context.read()
    with pytest.raises(link.rpc.UsageError, match="RPC already finished"):
        await context.send_initial_metadata(())
