"""What every call passes on its way in, for all four kinds of call and however the handler is written."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from server.conftest import Serve
from tai_grpc.observability.tracing import current_trace
from tai_grpc.resilience.timeout import current_deadline

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = (("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01"),)


def describe() -> bytes:
    """What a handler sees of its trace and its deadline."""
    trace, deadline = current_trace(), current_deadline()
    left = -1.0 if deadline is None else deadline - time.monotonic()
    return f"{trace.trace_id if trace else ''} {left:.1f}".encode()


async def unary(request: bytes, context: Any) -> bytes:
    return describe()


def plain_unary(request: bytes, context: Any) -> bytes:
    return describe()


async def generated(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield describe()
    yield b"2"


async def written(request: bytes, context: Any) -> None:
    await context.write(describe())
    await context.write(b"2")


def plain_generated(request: bytes, context: Any) -> Iterator[bytes]:
    yield describe()
    yield b"2"


async def collected(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return describe() + b" " + b"".join([request async for request in requests])


async def echoed(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    yield describe()
    async for request in requests:
        yield request


async def one_and_two() -> AsyncIterator[bytes]:
    yield b"1"
    yield b"2"


HANDLERS: dict[str, Any] = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "PlainUnary": grpc.unary_unary_rpc_method_handler(plain_unary),
    "Generated": grpc.unary_stream_rpc_method_handler(generated),
    "Written": grpc.unary_stream_rpc_method_handler(written),
    "PlainGenerated": grpc.unary_stream_rpc_method_handler(plain_generated),
    "Collected": grpc.stream_unary_rpc_method_handler(collected),
    "Echoed": grpc.stream_stream_rpc_method_handler(echoed),
}


async def ask(channel: Any, method: str, **options: Any) -> list[bytes]:
    path = f"/test.Generic/{method}"
    if method in ("Unary", "PlainUnary"):
        return [await channel.unary_unary(path)(b"", **options)]
    if method == "Collected":
        return [await channel.stream_unary(path)(one_and_two(), **options)]
    if method == "Echoed":
        return [message async for message in channel.stream_stream(path)(one_and_two(), **options)]
    return [message async for message in channel.unary_stream(path)(b"", **options)]


@pytest.mark.parametrize("method", HANDLERS)
async def test_every_kind_of_handler_sees_its_trace_and_its_deadline(serve: Serve, method: str) -> None:
    _, channel = await serve(HANDLERS, max_timeout=50.0, max_stream_timeout=50.0)
    answer = await ask(channel, method, metadata=TRACEPARENT)
    trace_id, left = answer[0].decode().split()[:2]
    assert trace_id == TRACE_ID
    assert 40 < float(left) <= 50, "no deadline of the caller's: the server's maximum"
    if method not in ("Unary", "PlainUnary"):
        assert b"".join(answer).endswith(b"2")
    _, left = (await ask(channel, method, timeout=20))[0].decode().split()[:2]
    assert 10 < float(left) < 30, "the caller's deadline is the earlier one"


async def test_x_trace_id_is_read_and_a_trace_is_started_where_none_came(serve: Serve) -> None:
    _, channel = await serve(HANDLERS)
    answer = await ask(channel, "Unary", metadata=(("x-trace-id", TRACE_ID),))
    assert answer[0].decode().split()[0] == TRACE_ID
    first, second = [(await ask(channel, "Unary"))[0].decode().split()[0] for _ in range(2)]
    assert len(first) == len(second) == 32
    assert first != second


@pytest.mark.parametrize("streams", [False, True])
async def test_the_servers_maximum_cancels_the_handler_and_says_so(serve: Serve, streams: bool) -> None:
    ended = asyncio.Event()

    async def hang(request: bytes, context: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async def hang_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await hang(request, context)

    handlers: dict[str, Any] = {
        "Hang": grpc.unary_stream_rpc_method_handler(hang_stream)
        if streams
        else grpc.unary_unary_rpc_method_handler(hang)
    }
    _, channel = await serve(handlers, max_timeout=0.1, max_stream_timeout=0.1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if streams:
            await channel.unary_stream("/test.Generic/Hang")(b"").read()
        else:
            await channel.unary_unary("/test.Generic/Hang")(b"")
    assert caught.value.code() is StatusCode.DEADLINE_EXCEEDED
    assert caught.value.details() == "the deadline, the server's maximum, passed after 0.100 s"
    await asyncio.wait_for(ended.wait(), 30)


async def test_a_timeout_of_the_handlers_own_is_not_the_deadline(serve: Serve) -> None:
    async def impatient(request: bytes, context: Any) -> bytes:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
        return b""

    _, channel = await serve({"Impatient": grpc.unary_unary_rpc_method_handler(impatient)})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Generic/Impatient")(b"")
    assert caught.value.code() is StatusCode.UNKNOWN


async def test_an_exception_is_unknown_logged_once_with_its_trace_and_the_server_lives_on(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        raise ValueError("the secret of the house")

    handlers: dict[str, Any] = {"Fail": grpc.unary_unary_rpc_method_handler(fail), **HANDLERS}
    _, channel = await serve(handlers)
    with caplog.at_level(logging.WARNING), pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Generic/Fail")(b"", metadata=TRACEPARENT)
    assert caught.value.code() is StatusCode.UNKNOWN
    assert TRACE_ID in (caught.value.details() or "")
    assert "secret" not in (caught.value.details() or "")
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.getMessage() == "test.Generic/Fail answered UNKNOWN"
    assert await ask(channel, "Unary")


async def test_abort_and_set_code_reach_the_caller_as_they_are(serve: Serve) -> None:
    async def abort(request: bytes, context: Any) -> bytes:
        await context.abort(StatusCode.DATA_LOSS, "gone", (("why", "because"),))
        return b""

    async def set_code(request: bytes, context: Any) -> bytes:
        context.set_code(StatusCode.NOT_FOUND)
        context.set_details("nothing here")
        return b""

    _, channel = await serve(
        {
            "Abort": grpc.unary_unary_rpc_method_handler(abort),
            "SetCode": grpc.unary_unary_rpc_method_handler(set_code),
        }
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Generic/Abort")(b"")
    assert (caught.value.code(), caught.value.details()) == (StatusCode.DATA_LOSS, "gone")
    assert ("why", "because") in tuple(caught.value.trailing_metadata())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Generic/SetCode")(b"")
    assert (caught.value.code(), caught.value.details()) == (StatusCode.NOT_FOUND, "nothing here")


async def test_a_cancelled_stream_closes_its_generator(serve: Serve) -> None:
    closed = asyncio.Event()

    async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(10_000)
        finally:
            closed.set()

    _, channel = await serve({"Endless": grpc.unary_stream_rpc_method_handler(endless)})
    call = channel.unary_stream("/test.Generic/Endless")(b"")
    await call.read()
    call.cancel()
    await asyncio.wait_for(closed.wait(), 30)


def refuse(request: bytes, context: Any) -> bytes:
    context.abort(StatusCode.PERMISSION_DENIED, "not you")
    return b"went on"


def refuse_stream(request: bytes, context: Any) -> Iterator[bytes]:
    yield b"1"
    context.abort(StatusCode.PERMISSION_DENIED, "not you")
    yield b"went on"


def plain_collected(requests: Iterator[bytes], context: Any) -> bytes:
    return b"".join(requests)


def plain_echoed(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    context.send_initial_metadata((("began", "yes"),))
    yield from requests


async def test_plain_functions_mean_what_they_mean_with_grpcio(serve: Serve) -> None:
    """They abort, send metadata and read their requests, and nothing of it is forgotten for want of await."""
    _, channel = await serve(
        {
            "Refuse": grpc.unary_unary_rpc_method_handler(refuse),
            "RefuseStream": grpc.unary_stream_rpc_method_handler(refuse_stream),
            "Collected": grpc.stream_unary_rpc_method_handler(plain_collected),
            "Echoed": grpc.stream_stream_rpc_method_handler(plain_echoed),
        }
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Generic/Refuse")(b"")
    assert (caught.value.code(), caught.value.details()) == (StatusCode.PERMISSION_DENIED, "not you")
    stream = channel.unary_stream("/test.Generic/RefuseStream")(b"")
    assert await stream.read() == b"1"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is StatusCode.PERMISSION_DENIED
    assert await ask(channel, "Collected") == [b"12"]
    echo = channel.stream_stream("/test.Generic/Echoed")(one_and_two())
    assert ("began", "yes") in tuple(await echo.initial_metadata())
    assert [message async for message in echo] == [b"1", b"2"]


async def test_a_method_that_generated_code_leaves_out_is_unimplemented(serve: Serve) -> None:
    """The generated base sets the code and raises, in a plain function."""

    def left_out(request: bytes, context: Any) -> bytes:
        context.set_code(StatusCode.UNIMPLEMENTED)
        context.set_details("Method not implemented!")
        raise NotImplementedError("Method not implemented!")

    _, channel = await serve({"LeftOut": grpc.unary_unary_rpc_method_handler(left_out)})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Generic/LeftOut")(b"")
    assert caught.value.code() is StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "Method not implemented!"
