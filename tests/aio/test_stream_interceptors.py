"""Client interceptors of streams."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from aio.link import BASIC, Link, Stuck, broken, chat, failure, path, read_all

Intercept = Callable[[Any, Any, Any], Awaitable[Any]]


def interceptors(link: Link, intercept: Intercept) -> list[Any]:
    """Return an interceptor for each kind of stream, which do what `intercept` does."""
    rpc = link.rpc

    class Split(rpc.UnaryStreamClientInterceptor):  # type: ignore[misc, name-defined]  # of the fixture
        async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
            return await intercept(continuation, details, request)

    class Collect(rpc.StreamUnaryClientInterceptor):  # type: ignore[misc, name-defined]  # of the fixture
        async def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
            return await intercept(continuation, details, requests)

    class Chat(rpc.StreamStreamClientInterceptor):  # type: ignore[misc, name-defined]  # of the fixture
        async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
            return await intercept(continuation, details, requests)

    return [Split(), Collect(), Chat()]


async def opened(link: Link, intercept: Intercept, stuck: Stuck | None = None) -> Any:
    _, target = await link.serve({**BASIC, **(stuck.handlers() if stuck else {})})
    return link.channel(target, interceptors=interceptors(link, intercept))


async def forward(continuation: Any, details: Any, request: Any) -> Any:
    return await continuation(details, request)


async def test_forwarded_streams_read_as_ever(link: Link) -> None:
    channel = await opened(link, forward)
    iterated = channel.unary_stream(path("Split"))(b"abc")
    assert isinstance(iterated, link.rpc.UnaryStreamCall)
    assert await read_all(iterated) == [b"a", b"b", b"c"]
    assert await iterated.code() is StatusCode.OK
    read = channel.unary_stream(path("Split"))(b"ab")
    assert [await read.read() for _ in range(4)] == [b"a", b"b", link.rpc.EOF, link.rpc.EOF]
    chat = channel.stream_stream(path("Chat"))([b"a", b"b"])
    assert isinstance(chat, link.rpc.StreamStreamCall)
    assert await read_all(chat) == [b"a", b"b"]


async def test_forwarded_streams_write_as_ever(link: Link) -> None:
    channel = await opened(link, forward)
    collect = channel.stream_unary(path("Join"))()
    assert isinstance(collect, link.rpc.StreamUnaryCall)
    await collect.write(b"a")
    await collect.write(b"b")
    await collect.done_writing()
    await collect.done_writing()
    assert await collect == b"ab"
    chat = channel.stream_stream(path("Chat"))()
    for message in (b"a", b"b"):
        await chat.write(message)
        assert await chat.read() == message
    await chat.done_writing()
    assert await chat.read() is link.rpc.EOF
    assert await chat.code() is StatusCode.OK
    with pytest.raises(asyncio.InvalidStateError, match="RPC already finished"):
        await chat.write(b"late")


async def test_writing_beside_an_iterator_is_a_usage_error(link: Link) -> None:
    channel = await opened(link, forward)
    for call in (channel.stream_unary(path("Join"))([b"a"]), channel.stream_stream(path("Chat"))([])):
        with pytest.raises(link.rpc.UsageError):
            await call.write(b"")
        with pytest.raises(link.rpc.UsageError):
            await call.done_writing()
        assert await call.code() is StatusCode.OK


async def test_responses_may_be_replaced(link: Link) -> None:
    async def twice(continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)

        async def doubled() -> AsyncIterator[bytes]:
            async for response in call:
                yield response * 2

        return doubled()

    channel = await opened(link, twice)
    call = channel.unary_stream(path("Split"))(b"ab")
    assert await read_all(call) == [b"aa", b"bb"]
    assert await call.code() is StatusCode.OK
    read = channel.unary_stream(path("Split"))(b"a")
    assert [await read.read(), await read.read()] == [b"aa", link.rpc.EOF]
    chat = channel.stream_stream(path("Chat"))()
    await chat.write(b"x")
    assert await chat.read() == b"xx"
    await chat.done_writing()
    assert await chat.read() is link.rpc.EOF


async def test_requests_may_be_replaced(link: Link) -> None:
    async def shout(continuation: Any, details: Any, requests: Any) -> Any:
        async def loud() -> AsyncIterator[bytes]:
            if hasattr(requests, "__aiter__"):
                async for request in requests:
                    yield request.upper()
            else:
                for request in requests:
                    yield request.upper()

        return await continuation(details, loud())

    channel = await opened(link, shout)
    assert await channel.stream_unary(path("Join"))([b"a", b"b"]) == b"AB"
    call = channel.stream_stream(path("Chat"))()
    await call.write(b"written")
    assert await call.read() == b"WRITTEN"
    await call.done_writing()
    assert await call.read() is link.rpc.EOF


async def test_an_interceptor_is_given_the_iterator_itself(link: Link) -> None:
    seen: list[Any] = []

    async def look(continuation: Any, details: Any, requests: Any) -> Any:
        seen.append(requests)
        return await continuation(details, requests)

    channel = await opened(link, look)
    given = [b"a"]
    assert await channel.stream_unary(path("Join"))(given) == b"a"
    assert seen == [given]
    written = channel.stream_unary(path("Join"))()
    await written.write(b"b")
    await written.done_writing()
    assert await written == b"b"
    assert hasattr(seen[1], "__aiter__")


async def test_details_of_a_stream_may_be_changed(link: Link) -> None:
    async def redirect(continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details._replace(method=b"/no/thing"), request)

    channel = await opened(link, redirect)
    _, error = await broken(channel.unary_stream(path("Split"))(b""))
    assert error.code() is StatusCode.UNIMPLEMENTED
    error = await failure(channel.stream_unary(path("Join"))([]))
    assert error.code() is StatusCode.UNIMPLEMENTED
    _, error = await broken(channel.stream_stream(path("Chat"))([]))
    assert error.code() is StatusCode.UNIMPLEMENTED


async def test_an_rpc_error_of_a_streams_interceptor_is_the_calls(link: Link) -> None:
    async def refuse(continuation: Any, details: Any, request: Any) -> Any:
        raise link.rpc.AioRpcError(StatusCode.ABORTED, link.rpc.Metadata(), link.rpc.Metadata(), "refused")

    channel = await opened(link, refuse)
    call = channel.unary_stream(path("Split"))(b"")
    messages, error = await broken(call)
    assert (messages, error.code(), error.details()) == ([], StatusCode.ABORTED, "refused")
    assert await call.code() is StatusCode.ABORTED
    assert (await failure(channel.stream_unary(path("Join"))([]))).code() is StatusCode.ABORTED
    writing = channel.stream_stream(path("Chat"))()
    with pytest.raises(asyncio.InvalidStateError):
        await writing.write(b"")
    assert await writing.code() is StatusCode.ABORTED


async def test_any_other_exception_is_raised_where_the_stream_is_read(link: Link) -> None:
    async def fail(continuation: Any, details: Any, request: Any) -> Any:
        raise ValueError("the interceptor's")

    channel = await opened(link, fail)
    with pytest.raises(ValueError, match="the interceptor's"):
        await read_all(channel.unary_stream(path("Split"))(b""))
    with pytest.raises(ValueError, match="the interceptor's"):
        await channel.stream_unary(path("Join"))([])
    with pytest.raises(ValueError, match="the interceptor's"):
        await read_all(channel.stream_stream(path("Chat"))([]))


async def test_an_exception_of_replaced_responses_is_raised_where_they_are_read(link: Link) -> None:
    async def break_off(continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)

        async def first_only() -> AsyncIterator[bytes]:
            async for response in call:
                yield response
                raise ValueError("one is enough")

        return first_only()

    channel = await opened(link, break_off)
    received = []
    with pytest.raises(ValueError, match="one is enough"):
        async for response in channel.unary_stream(path("Split"))(b"ab"):
            received.append(response)  # noqa: PERF401 - what came before the error counts
    assert received == [b"a"]


@pytest.mark.parametrize("kind", ["Split", "Chat"])
async def test_cancelling_an_intercepted_stream(link: Link, kind: str) -> None:
    stuck = Stuck()
    channel = await opened(link, forward, stuck)
    if kind == "Split":
        call = channel.unary_stream(path("Split"))(b"")
    else:
        call = channel.stream_stream(path("Chat"))()
    assert await call.read() == b"first"
    await stuck.begun.wait()
    assert call.cancel()
    assert await call.code() is StatusCode.CANCELLED
    assert call.cancelled()
    await stuck.ended.wait()
    assert stuck.cancelled


async def test_done_callbacks_of_an_intercepted_stream(link: Link) -> None:
    channel = await opened(link, forward)
    call = channel.unary_stream(path("Split"))(b"ab")
    seen: list[Any] = []
    call.add_done_callback(seen.append)
    assert await read_all(call) == [b"a", b"b"]
    assert await call.code() is StatusCode.OK
    assert seen == [call]


async def test_responses_without_a_call(link: Link) -> None:
    """Defect of grpc.aio: the call it returns has no status and cannot be cancelled."""
    if link.is_grpcio:
        pytest.skip("grpc.aio fails with AttributeError, in the event loop too")

    async def answer(continuation: Any, details: Any, request: Any) -> Any:
        async def own() -> AsyncIterator[bytes]:
            yield b"own"

        return own()

    channel = await opened(link, answer)
    for call in (channel.unary_stream(path("Split"))(b""), channel.stream_stream(path("Chat"))([])):
        assert await read_all(call) == [b"own"]
        assert await call.code() is StatusCode.OK
        assert call.done()


async def test_a_writer_behind_interceptors_is_told_that_the_call_has_ended(link: Link) -> None:
    """Also while a response is unread, so that the call is not done yet."""

    async def early(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        yield b"early"
        await asyncio.wait_for(full.wait(), 20)

    full = asyncio.Event()
    _, target = await link.serve({"Chat": chat(early)})
    channel = link.channel(target, interceptors=interceptors(link, forward))
    call = channel.stream_stream(path("Chat"))(timeout=60)
    with pytest.raises((asyncio.InvalidStateError, grpc.RpcError)):
        while True:
            writing = asyncio.ensure_future(call.write(bytes(100_000)))
            done, _ = await asyncio.wait((writing,), timeout=0.2)
            if not done:
                full.set()
            await writing
    assert full.is_set()
