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
from tai_grpc.tai import Receipt

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
    assert caught.value.details() == "the call took longer than the 0.100 s that the server allows"
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
    assert record.getMessage() == f"test.Generic/Fail answered UNKNOWN, trace_id={TRACE_ID}"
    assert vars(record)["trace_id"] == TRACE_ID, "for logs that print fields, and no message"
    assert await ask(channel, "Unary")


async def nothing(request: bytes, context: Any) -> None:
    pass


def plain_nothing(request: bytes, context: Any) -> None:
    pass


@pytest.mark.parametrize("serializer", [Receipt.SerializeToString, None])
@pytest.mark.parametrize("function", [nothing, plain_nothing])
async def test_a_response_that_cannot_be_sent_is_a_failure_that_is_counted_and_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture, function: Any, serializer: Any
) -> None:
    handler: Any = grpc.unary_unary_rpc_method_handler(function, response_serializer=serializer)
    server, channel = await serve({"Nothing": handler})
    with caplog.at_level(logging.WARNING), pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Generic/Nothing")(b"", metadata=TRACEPARENT)
    told = (caught.value.code(), caught.value.details())
    assert told == (StatusCode.UNKNOWN, f"the handler failed; the server's log has trace_id={TRACE_ID}")
    stats = server.stats()
    assert (stats.started, stats.failed, stats.in_flight, stats.latency.count) == (1, 1, 0, 0)
    (record,) = caplog.records
    assert "NoneType" in str(record.exc_info)


@pytest.mark.parametrize(
    ("given", "sent"),
    [(StatusCode.NOT_FOUND, "NOT_FOUND"), (5, "NOT_FOUND"), (99, "UNKNOWN"), ("NOT_FOUND", "UNKNOWN")],
)
@pytest.mark.parametrize("response", [None, Receipt()])
async def test_with_a_code_of_its_own_a_handler_needs_no_response_and_has_failed(
    serve: Serve, given: Any, sent: str, response: Receipt | None
) -> None:
    async def find(request: bytes, context: Any) -> Receipt | None:
        context.set_code(given)
        return response

    handler: Any = grpc.unary_unary_rpc_method_handler(find, response_serializer=Receipt.SerializeToString)
    server, channel = await serve({"Find": handler})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Generic/Find")(b"")
    assert caught.value.code() is StatusCode[sent]
    assert (server.stats().failed, server.stats().latency.count) == (1, 0)


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


async def test_an_upload_that_its_client_breaks_off_is_none_that_ended(serve: Serve) -> None:
    """Defect of grpc.aio: the handler sees the end of the requests, and takes what came for the whole."""
    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    whole: list[str] = []

    async def upload(requests: AsyncIterator[bytes], context: Any) -> bytes:
        async for request in requests:
            arrived.put_nowait(request)
        whole.append(request.decode())
        return b""

    server, channel = await serve({"Upload": grpc.stream_unary_rpc_method_handler(upload)})
    method = channel.stream_unary("/test.Generic/Upload")
    for number in range(30):
        call = method()
        await call.write(str(number).encode())
        await arrived.get()
        call.cancel()
    async with asyncio.timeout(20):
        while server.stats().in_flight:  # noqa: ASYNC110 - the count is all that tells
            await asyncio.sleep(0.001)
    stats = server.stats()
    assert (whole, stats.started, stats.failed) == ([], 30, 30)
    assert await method(one_and_two()) == b""
    assert (whole, server.stats().failed) == (["2"], 30)


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
